use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Environment, Vec<Fault>> {
    let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Environment::read(|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
}

fn on(vars: &[(&str, &str)]) -> TraceSettings {
    let environment = read(vars).unwrap();
    assert_eq!(environment.warnings, []);
    environment.settings.unwrap()
}

#[test]
fn tracing_is_on_by_an_endpoint_or_by_the_exporter_and_else_off() {
    assert_eq!(read(&[]).unwrap(), Environment::default());
    assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "  ")]).unwrap(), Environment::default());
    assert_eq!(on(&[("OTEL_TRACES_EXPORTER", "otlp")]).endpoint, "http://localhost:4318/v1/traces");
    let grpc = [("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    assert_eq!(on(&grpc).endpoint, "http://localhost:4317/");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    assert_eq!(on(&[endpoint]).protocol, Protocol::HttpProtobuf);
    for off in [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "TRUE")] {
        assert_eq!(read(&[endpoint, off]).unwrap().settings, None, "{off:?}");
    }
}

#[test]
fn the_variables_for_traces_go_before_the_general_ones() {
    let settings = on(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4318/base/"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/otlp?x=1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ]);
    assert_eq!(settings.endpoint, "https://traces.example/otlp?x=1");
    assert_eq!(settings.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.timeout, Duration::from_secs(3));
    assert_eq!(settings.headers.len(), 1);
    assert!(!settings.gzip);
    assert_eq!(settings.shown_endpoint(), "https://traces.example");
}

#[test]
fn a_general_endpoint_gets_the_path_only_over_http() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4318/base/");
    assert_eq!(on(&[endpoint]).endpoint, "http://general:4318/base/v1/traces");
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC");
    assert_eq!(on(&[endpoint, grpc]).endpoint, "http://general:4318/base/");
}

#[test]
fn a_grpc_endpoint_without_a_scheme_is_tls_unless_said_otherwise() {
    let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    assert_eq!(on(&vars).endpoint.scheme_str(), Some("https"));
    let plain = [vars[0], vars[1], ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
    assert_eq!(on(&plain).endpoint.scheme_str(), Some("http"));
}

#[test]
fn all_faults_are_told_at_once_and_no_value_of_a_header_with_them() {
    let faults = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret,s3cret-without-name,x=%zz"),
    ])
    .unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: is no URL"));
    assert_eq!(told[1], "OTEL_EXPORTER_OTLP_HEADERS: entry 2 is no header of the form name=value");
    assert!(!told.concat().contains("s3cret"));
}

#[test]
fn what_the_specification_wants_ignored_is_ignored_with_a_warning() {
    let environment = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
    ])
    .unwrap();
    assert_eq!(environment.warnings.len(), 9, "{:?}", environment.warnings);
    let settings = environment.settings.unwrap();
    assert_eq!(settings.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(settings.sampler, Sampler::default());
    assert_eq!(settings.queue, QueueSettings::default());
    assert_eq!(settings.resource, []);
}

#[test]
fn a_sampler_takes_its_share_from_its_argument() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
    assert_eq!(on(&[endpoint, ratio]).sampler, Sampler::ALWAYS_ON);
    assert_eq!(on(&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]).sampler, Sampler::ratio(0.25));
    let bad = read(&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "25%")]).unwrap();
    assert_eq!(bad.warnings.len(), 1);
    assert_eq!(bad.settings.unwrap().sampler, Sampler::ALWAYS_ON);
}

#[test]
fn the_service_name_goes_before_the_resource_list() {
    let settings = on(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=list, deployment.environment.name=a%2Cb"),
        ("OTEL_SERVICE_NAME", "mine"),
    ]);
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(settings.resource, [pair("deployment.environment.name", "a,b"), pair("service.name", "mine")]);
}

#[test]
fn settings_show_no_secret() {
    let settings = on(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:s3cret@c.example:4318/s3cret-path"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret"),
    ]);
    let shown = format!("{settings:?}");
    assert!(shown.contains("https://c.example:4318") && shown.contains("authorization"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_eq!(settings.headers[0].1, "Bearer s3cret");
}

/// What all spans of a worker tell of where they happened: the subjects that they are named after, the
/// worker, the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    pub(super) decide: String,
    pub(super) tenant_decide: String,
    pub(super) assign: String,
    pub(super) result: String,
    pub(super) tenant_result: String,
    pub(super) control: String,
    pub(super) group: String,
    pub(super) worker: Option<String>,
    pub(super) server: Option<(String, u16)>,
}

impl Subjects {
    /// From the prefixes of the deployment (`beamline.router`, `caf.exec`) and its queue group.
    #[must_use]
    pub fn new(router: &str, exec: &str, queue_group: &str) -> Self {
        Self {
            decide: format!("{router}.v1.decide"),
            tenant_decide: format!("{router}.v1.tenant.{{tenant}}.decide"),
            assign: format!("{exec}.assign.v1"),
            result: format!("{exec}.result.v1"),
            tenant_result: format!("{exec}.result.v1.{{tenant}}"),
            control: format!("{router}.control.v1"),
            group: queue_group.to_owned(),
            worker: None,
            server: None,
        }
    }

    /// With this worker's name.
    #[must_use]
    pub fn of_worker(self, name: &str) -> Self {
        Self { worker: Some(name.to_owned()), ..self }
    }

    /// With the broker's host and port. Of several brokers none is named: which of them serves the
    /// connection changes while it lasts.
    #[must_use]
    pub fn at_server(self, server: Option<(String, u16)>) -> Self {
        Self { server, ..self }
    }
}

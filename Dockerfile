# The router and nothing else that runs. Built with BuildKit, the default of docker build.
# Base images are pinned by tag; a new one is a change of this file.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Dependencies and what was built stay in caches of this machine, outside the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin beamline-router \
 && mkdir /out \
 && strip --strip-debug -o /out/beamline-router target/release/beamline-router

FROM debian:12.14-slim
# Authorities, for a broker or a collector with a public certificate.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/beamline-router /usr/local/bin/beamline-router
COPY LICENSE /usr/share/doc/beamline-router/LICENSE

# No root, and no name needed for it.
USER 65532:65532
# Loopback, the program's default, would not be reached from outside the container.
ENV BEAMLINE_HTTP_ADDR=0.0.0.0:9464
EXPOSE 9464

# There is no curl here: bash opens the connection and reads the status line. Healthy means ready (connected,
# policies loaded, log caught up); where the orchestrator has probes of its own, give it /healthz and /readyz.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${BEAMLINE_HTTP_ADDR##*:} && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]

ENTRYPOINT ["/usr/local/bin/beamline-router"]
CMD ["serve"]

//! The program `beamline-router`.

use std::process::ExitCode;

use beamline_router::app;
use beamline_router::cli::output::Output;
use beamline_router::cli::{Cli, Command, Exit, bench, demo, load, top};
use beamline_router::config::{ProcessEnv, Settings};
use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// A request passes through some twenty allocations, most of them the client library's: measured, they cost
/// less here than with the system's allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Output::people().error(&format!("no runtime: {error}"));
            return Exit::Refused.into();
        }
    };
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(args) => match Settings::resolve(&args, &ProcessEnv) {
            Ok(settings) => app::serve(settings).await,
            Err(faults) => {
                Output::people().error(&faults.to_string());
                Exit::Usage.into()
            }
        },
        Command::Demo(args) => demo::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Load(args) => load::run(args).await,
        Command::Policy(command) => command.run().await,
        Command::Breaker(command) => command.run().await,
        Command::Flag(command) => command.run().await,
        Command::Tenant(command) => command.run().await,
        Command::Rollout(command) => command.run().await,
        Command::Top(args) => top::run(args).await,
    }
}

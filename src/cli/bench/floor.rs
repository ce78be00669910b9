use std::process::ExitCode;

use super::BenchFailed;
use super::site::echo_subject;
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::stand::{client_settings, end};
use crate::nats::measuring::{AskerFailed, EchoOver, echo};

/// Echoes until the broker goes.
pub(super) async fn run(url: &str, over: EchoOver, out: Output) -> ExitCode {
    let ended = match client_settings(url) {
        Err(failed) => Err(BenchFailed::Stand(failed)),
        Ok(settings) => {
            // The program's own runtime has several threads; the floor is one loop on one.
            let echoing = std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| AskerFailed::Thread(error.to_string()))?;
                runtime.block_on(echo(over, &settings, echo_subject(over)))
            });
            let joined =
                tokio::task::spawn_blocking(move || echoing.map(std::thread::JoinHandle::join)).await;
            match joined {
                Ok(Ok(Ok(ended))) => ended.map_err(BenchFailed::Asker),
                _ => Err(BenchFailed::Asker(AskerFailed::Thread("the floor died".to_owned()))),
            }
        }
    };
    end(out, ended.map(|()| Exit::Done))
}

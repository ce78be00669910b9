//! Compiles `proto/` into the types of `wire::proto`, with no protoc installed.

use std::error::Error;

const FILES: [&str; 1] = ["beamline/flow/v1/flow.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    // What goes out is sorted, so that equal replies are equal bytes.
    prost_build::Config::new()
        .btree_map([".beamline.flow.v1.RouteDecision", ".beamline.flow.v1.RouteError"])
        .compile_fds(protox::compile(FILES, ["proto"])?)?;
    Ok(())
}

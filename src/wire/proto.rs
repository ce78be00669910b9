//! The messages of `proto/beamline/flow/v1/flow.proto`, as the build script generates them.

include!(concat!(env!("OUT_DIR"), "/beamline.flow.v1.rs"));

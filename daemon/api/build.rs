//! Compiles the protobufs with a compiler in Rust, so that no `protoc` is needed on the machine.

use std::path::PathBuf;

use prost::Message;

const PROTOS: [&str; 10] = [
    "rpc/kv.proto",
    "rpc/watch.proto",
    "rpc/lease.proto",
    "rpc/cluster.proto",
    "rpc/maintenance.proto",
    "rpc/auth.proto",
    "lock.proto",
    "election.proto",
    "command.proto",
    "health.proto",
];
/// What the JSON gateway speaks; log commands never leave the member as JSON.
const JSON_PACKAGES: [&str; 5] = [
    ".mvccpb",
    ".authpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
];
const SERVED_PACKAGES: [&str; 4] = ["etcdserverpb", "v3lockpb", "v3electionpb", "grpc.health.v1"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;

    let mut grpc = tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false);
    for package in SERVED_PACKAGES {
        grpc = grpc
            .client_mod_attribute(package, "#[cfg(feature = \"client\")]")
            .server_mod_attribute(package, "#[cfg(feature = \"server\")]");
    }
    grpc.compile_fds(descriptors.clone())?;

    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .out_dir(PathBuf::from(std::env::var("OUT_DIR")?))
        .build(&JSON_PACKAGES)?;
    Ok(())
}

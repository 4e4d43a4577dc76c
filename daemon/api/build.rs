//! Compiles the protobufs with a compiler in Rust, so that no `protoc` is needed on the machine.

use std::path::{Path, PathBuf};

use prost::Message;

const PROTOS: [&str; 12] = [
    "rpc/kv.proto",
    "rpc/watch.proto",
    "rpc/lease.proto",
    "rpc/cluster.proto",
    "rpc/maintenance.proto",
    "rpc/auth.proto",
    "lock.proto",
    "election.proto",
    "command.proto",
    "peer.proto",
    "health.proto",
    "admin.proto",
];
/// What the JSON gateway speaks; log commands never leave the member as JSON.
const JSON_PACKAGES: [&str; 5] = [
    ".mvccpb",
    ".authpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
];
const SERVED_PACKAGES: [&str; 5] = [
    "etcdserverpb",
    "v3lockpb",
    "v3electionpb",
    "grpc.health.v1",
    "adminpb",
];

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

    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .out_dir(&out_dir)
        .build(&JSON_PACKAGES)?;
    for package in JSON_PACKAGES {
        let name = package.trim_start_matches('.');
        read_scalars_as_go_does(&out_dir.join(format!("{name}.serde.rs")))?;
    }
    Ok(())
}

/// Makes a generated decoder read scalars by the types of `src/json.rs`.
fn read_scalars_as_go_does(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let decoder = std::fs::read_to_string(path)?
        .replace(
            "::pbjson::private::NumberDeserialize",
            "crate::json::Integer",
        )
        .replace("::pbjson::private::BytesDeserialize", "crate::json::Base64");
    let mut rewritten = String::with_capacity(decoder.len());
    for line in decoder.lines() {
        rewritten.push_str(&read_enum_as_go_does(line));
        rewritten.push('\n');
    }
    if rewritten.contains(" as i32)") {
        return Err("a generated decoder reads enums in a way that is not known here".into());
    }
    std::fs::write(path, rewritten)?;
    Ok(())
}

fn read_enum_as_go_does(line: &str) -> String {
    const ONE: (&str, &str) = ("map_.next_value::<", ">()? as i32)");
    const MANY: (&str, &str) = (
        "map_.next_value::<Vec<",
        ">>()?.into_iter().map(|x| x as i32).collect()",
    );
    let between = |(before, after): (&str, &str)| {
        let (head, rest) = line.split_once(before)?;
        let (name, tail) = rest.split_once(after)?;
        Some((head.to_string(), name.to_string(), tail.to_string()))
    };
    if let Some((head, name, tail)) = between(MANY) {
        let values = format!("map_.next_value::<Vec<crate::json::Enum<{name}>>>()?");
        return format!("{head}{values}.into_iter().filter_map(|x| x.0).collect(){tail}");
    }
    match between(ONE) {
        Some((head, name, tail)) => {
            let value = format!("map_.next_value::<crate::json::Enum<{name}>>()?.0");
            format!("{head}{value}.unwrap_or_default()){tail}")
        }
        None => line.to_string(),
    }
}

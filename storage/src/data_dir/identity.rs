//! The file that holds a member's identity.

/// A member's identity. Written once, when the member bootstraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the member belongs to.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
    /// The member's human-readable name; no control characters.
    pub name: String,
}

/// The content of an identity file.
pub(super) fn encode_identity(identity: &Identity) -> String {
    let Identity {
        cluster_id,
        member_id,
        name,
    } = identity;
    let body = format!(
        "althing member 1\ncluster {cluster_id:016x}\nmember {member_id:016x}\nname {name}\n"
    );
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc32c {crc:08x}\n")
}

/// Reads an identity file.
///
/// # Errors
/// What is wrong with it.
pub fn decode_identity(bytes: &[u8]) -> Result<Identity, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
    let lines: Vec<&str> = text.split('\n').collect();
    let &[head, cluster, member, name, crc, ""] = lines.as_slice() else {
        return Err("not five lines");
    };
    let field = |line: &'static str, text: &str| match text.strip_prefix(line) {
        Some(value) => Ok(value.to_owned()),
        None => Err("a line has the wrong name"),
    };
    let crc = u32::from_str_radix(&field("crc32c ", crc)?, 16).map_err(|_| "no checksum")?;
    let body = text.rfind("crc32c ").map_or("", |at| &text[..at]);
    if crc32c::crc32c(body.as_bytes()) != crc {
        return Err("the checksum does not match");
    }
    if head != "althing member 1" {
        return Err("unknown format");
    }
    let hex = |text: String| u64::from_str_radix(&text, 16).map_err(|_| "not a hexadecimal id");
    Ok(Identity {
        cluster_id: hex(field("cluster ", cluster)?)?,
        member_id: hex(field("member ", member)?)?,
        name: field("name ", name)?,
    })
}

//! Request headers as gRPC metadata.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

const PREFIX: &str = "grpc-metadata-";
/// Our own metadata needs no prefix.
const OWN_PREFIX: &str = "althing-";

/// What a service may read: `Authorization`, `Althing-<name>`, and `Grpc-Metadata-<name>` as
/// `<name>`. Other headers are between the client and HTTP; names of binary metadata (`-bin`) have
/// no reader.
pub(super) fn from_headers(headers: &HeaderMap) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        let name = match name == AUTHORIZATION {
            true => Some("authorization"),
            false if name.as_str().starts_with(OWN_PREFIX) => Some(name.as_str()),
            false => name.as_str().strip_prefix(PREFIX),
        };
        let Some(name) = name else { continue };
        let key = MetadataKey::<Ascii>::from_bytes(name.as_bytes());
        let value = MetadataValue::<Ascii>::try_from(value.as_bytes());
        if let (Ok(key), Ok(value)) = (key, value) {
            metadata.append(key, value);
        }
    }
    metadata
}

/// Our own metadata of an answer, as response headers.
pub(super) fn to_headers(metadata: MetadataMap) -> Vec<(HeaderName, HeaderValue)> {
    let headers = metadata.into_headers();
    let own = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(OWN_PREFIX));
    own.filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_authorization_our_own_and_grpc_metadata_reach_the_service() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("grpc-metadata-hasleader", "true"),
            ("althing-ttl", "30s"),
            ("grpc-metadata-raw-bin", "AAE="),
            ("user-agent", "curl"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let metadata = from_headers(&headers);
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer t");
        assert_eq!(metadata.get("hasleader").unwrap(), "true");
        assert_eq!(metadata.get("althing-ttl").unwrap(), "30s");
        assert_eq!(metadata.len(), 3);
    }
}

//! Request headers as gRPC metadata.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

const PREFIX: &str = "grpc-metadata-";

/// What a service may read: `Authorization`, and `Grpc-Metadata-<name>` under its name. Other
/// headers are between the client and HTTP; names of binary metadata (`-bin`) have no reader.
pub(super) fn from_headers(headers: &HeaderMap) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        let name = match name == AUTHORIZATION {
            true => Some("authorization"),
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

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_authorization_and_grpc_metadata_reach_the_service() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("grpc-metadata-hasleader", "true"),
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
        assert_eq!(metadata.len(), 2);
    }
}

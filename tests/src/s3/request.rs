//! Tells which S3 operation an HTTP request is, for counting and for faults.

use std::fmt;

use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        /// Kind of an S3 request, named as in the AWS reference.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum RequestKind { $($kind),+ }

        impl RequestKind {
            /// Every kind, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$kind),+];
        }

        impl fmt::Display for RequestKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$kind => stringify!($kind)),+ })
            }
        }
    };
}

kinds! {
    ListBuckets, CreateBucket, HeadBucket, DeleteBucket, ListObjects, ListObjectsV2, ListMultipartUploads,
    GetObject, HeadObject, PutObject, CopyObject, DeleteObject, DeleteObjects,
    CreateMultipartUpload, UploadPart, UploadPartCopy, CompleteMultipartUpload, AbortMultipartUpload, ListParts,
    Other,
}

/// What the fault layer and the counters know of a request before it is served.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: RequestKind,
    pub(super) bucket: String,
    pub(super) key: String,
}

/// Classifies a path-style request.
pub(super) fn target(method: &Method, uri: &Uri, headers: &HeaderMap) -> Target {
    let path = percent_decode_str(uri.path()).decode_utf8_lossy().into_owned();
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    let has = |name: &str| query.contains(&name);
    let copies = headers.contains_key("x-amz-copy-source");
    let kind = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => RequestKind::ListBuckets,
        ("GET", _, true) if has("uploads") => RequestKind::ListMultipartUploads,
        ("GET", _, true) if has("list-type") => RequestKind::ListObjectsV2,
        ("GET", _, true) if has("location") || has("versioning") || has("object-lock") => RequestKind::Other,
        ("GET", _, true) => RequestKind::ListObjects,
        ("PUT", false, true) => RequestKind::CreateBucket,
        ("HEAD", false, true) => RequestKind::HeadBucket,
        ("DELETE", false, true) => RequestKind::DeleteBucket,
        ("POST", false, true) if has("delete") => RequestKind::DeleteObjects,
        ("GET", _, false) if has("uploadId") => RequestKind::ListParts,
        ("GET", _, false) => RequestKind::GetObject,
        ("HEAD", _, false) => RequestKind::HeadObject,
        ("PUT", _, false) if has("partNumber") && copies => RequestKind::UploadPartCopy,
        ("PUT", _, false) if has("partNumber") => RequestKind::UploadPart,
        ("PUT", _, false) if copies => RequestKind::CopyObject,
        ("PUT", _, false) => RequestKind::PutObject,
        ("DELETE", _, false) if has("uploadId") => RequestKind::AbortMultipartUpload,
        ("DELETE", _, false) => RequestKind::DeleteObject,
        ("POST", _, false) if has("uploads") => RequestKind::CreateMultipartUpload,
        ("POST", _, false) if has("uploadId") => RequestKind::CompleteMultipartUpload,
        _ => RequestKind::Other,
    };
    let key = if key.is_empty() { prefix(uri) } else { key.to_owned() };
    Target { kind, bucket: bucket.to_owned(), key }
}

/// What a listing is limited to stands in the place of a key, so that rules can tell listings apart.
fn prefix(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let prefix = pairs.filter_map(|pair| pair.strip_prefix("prefix=")).next().unwrap_or_default();
    percent_decode_str(prefix).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let cases = [
            ("GET", "/", RequestKind::ListBuckets),
            ("GET", "/b?list-type=2&prefix=x", RequestKind::ListObjectsV2),
            ("GET", "/b/?prefix=x", RequestKind::ListObjects),
            ("GET", "/b?uploads", RequestKind::ListMultipartUploads),
            ("POST", "/b?delete", RequestKind::DeleteObjects),
            ("PUT", "/b/k?x-id=PutObject", RequestKind::PutObject),
            ("PUT", "/b/k?partNumber=1&uploadId=u", RequestKind::UploadPart),
            ("POST", "/b/k?uploads", RequestKind::CreateMultipartUpload),
            ("POST", "/b/k?uploadId=u", RequestKind::CompleteMultipartUpload),
            ("DELETE", "/b/k?uploadId=u", RequestKind::AbortMultipartUpload),
            ("DELETE", "/b/k", RequestKind::DeleteObject),
            ("GET", "/b/k?uploadId=u", RequestKind::ListParts),
            ("HEAD", "/b/a/b", RequestKind::HeadObject),
        ];
        for (method, uri, expected) in cases {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let found = target(&method, &uri.parse().expect("a URI"), &HeaderMap::new());
            assert_eq!(found.kind, expected, "{method} {uri}");
        }
    }

    #[test]
    fn the_prefix_of_a_listing_stands_for_a_key() {
        let uri = "/b?list-type=2&prefix=backup%2Fmeta%2F&delimiter=%2F".parse().expect("a URI");
        assert_eq!(target(&Method::GET, &uri, &HeaderMap::new()).key, "backup/meta/");
    }
}

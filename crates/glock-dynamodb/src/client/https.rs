//! An HTTPS client without C code of OpenSSL's or AWS's.

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// An HTTPS client for [`Config::http_client`](aws_sdk_dynamodb::config::Builder::http_client): rustls
/// with ring and the system's certificates.
///
/// The SDK's own (its feature `default-https-client`, which `aws-config` turns on) does as well.
pub fn https_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

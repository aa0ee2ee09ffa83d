//! Building the S3 client of one bucket.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::credentials::{Found, Profile, resolve, variable};
use super::options::StoreOptions;
use crate::error::{ConnectorError, Result};

/// An endpoint that does not answer, or answers 5xx, is given up after this long: long enough for a
/// load balancer to fail over, short enough for a person to wait for the message.
const RETRY_TIMEOUT: Duration = Duration::from_secs(8);
/// Retries within [`RETRY_TIMEOUT`].
const MAX_RETRIES: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One request, body included; a part of an upload is at most a few MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The client of `bucket`. Does no IO; a wrong endpoint or key shows at the first request.
pub(super) fn build(bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
    let (found, profile) = resolve(options.credentials.as_deref())?;
    let endpoint = endpoint(options, &profile);
    let http = allows_http(options, endpoint.as_deref());
    let client =
        ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT).with_allow_http(http);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry())
        .with_client_options(client);
    if let Some(region) = options.region.clone().or(region_of_environment(&profile)) {
        builder = builder.with_region(region);
    }
    builder = with_credentials(builder, found, endpoint.as_deref())?;
    if let Some(endpoint) = endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_virtual_hosted_style_request(false);
    }
    let store = builder.build().map_err(|error| ConnectorError::from_store(format!("opening s3://{bucket}"), error))?;
    Ok(Arc::new(store))
}

fn with_credentials(builder: AmazonS3Builder, found: Found, endpoint: Option<&str>) -> Result<AmazonS3Builder> {
    match found {
        Found::Anonymous => Ok(builder.with_skip_signature(true)),
        Found::Keys(keys) => {
            let builder = builder.with_access_key_id(keys.access_key_id).with_secret_access_key(keys.secret_access_key);
            Ok(match keys.session_token {
                Some(token) => builder.with_token(token),
                None => builder,
            })
        }
        // Only Amazon's platform hands out credentials by itself; elsewhere it would be a wait of
        // seconds for an instance service that is not there.
        Found::Platform if endpoint.is_some() => Err(ConnectorError::denied(
            "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the option tidemill_s3.credentials",
        )),
        Found::Platform => Ok(builder),
    }
}

fn endpoint(options: &StoreOptions, profile: &Profile) -> Option<String> {
    options
        .endpoint
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .or_else(|| variable("AWS_ENDPOINT"))
        .or_else(|| profile.endpoint.clone())
}

fn region_of_environment(profile: &Profile) -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).or_else(|| profile.region.clone())
}

fn allows_http(options: &StoreOptions, endpoint: Option<&str>) -> bool {
    options.allow_http.unwrap_or_else(|| endpoint.is_some_and(|url| url.starts_with("http://")))
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    }
}

//! Options of object stores that may travel: endpoints, regions and *references* to credentials.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "tidemill_s3";

/// How to reach S3. Holds no secret: `credentials` says where each process finds its own.
///
/// Everything left out is taken from the environment of the process that opens the store
/// (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE` and the like).
///
/// As a configuration extension (`SET tidemill_s3.endpoint = '…'`) it travels with a session to the
/// scheduler and the executors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// URL of the S3 service. Default: Amazon's for the region. A given endpoint is addressed path-style.
    pub endpoint: Option<String>,
    /// Region of the bucket. Default: the profile's, else `us-east-1`.
    pub region: Option<String>,
    /// Where credentials are found: `env:PREFIX` (variables `PREFIX_ACCESS_KEY_ID`,
    /// `PREFIX_SECRET_ACCESS_KEY` and, if there, `PREFIX_SESSION_TOKEN`), `profile:NAME` (a profile of
    /// `~/.aws/credentials` and `~/.aws/config`) or `anonymous`.
    pub credentials: Option<String>,
    /// Whether plain `http://` is allowed. Default: it is when the endpoint's URL says `http`.
    pub allow_http: Option<bool>,
}

impl StoreOptions {
    /// The options of a session; those of an unprepared session are empty.
    pub fn of(config: &SessionConfig) -> Self {
        config.options().extensions.get::<Self>().cloned().unwrap_or_default()
    }

    fn field(&mut self, key: &str) -> Option<&mut Option<String>> {
        match key {
            "endpoint" => Some(&mut self.endpoint),
            "region" => Some(&mut self.region),
            "credentials" => Some(&mut self.credentials),
            _ => None,
        }
    }
}

impl ConfigExtension for StoreOptions {
    const PREFIX: &'static str = PREFIX;
}

impl ExtensionOptions for StoreOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        // Ballista sends the whole key, `SET` sends what follows the prefix.
        let key = key.strip_prefix("tidemill_s3.").unwrap_or(key);
        if key == "allow_http" {
            self.allow_http = Some(value.parse().map_err(|_| not_a_bool(value))?);
            return Ok(());
        }
        if key == "credentials" {
            check_reference(value)?;
        }
        match self.field(key) {
            Some(field) => {
                *field = (!value.is_empty()).then(|| value.to_owned());
                Ok(())
            }
            None => Err(unknown_key(key)),
        }
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: Option<String>, description: &'static str| ConfigEntry {
            key: format!("{PREFIX}.{key}"),
            value,
            description,
        };
        vec![
            entry("endpoint", self.endpoint.clone(), "URL of the S3 service"),
            entry("region", self.region.clone(), "region of the buckets"),
            entry(
                "credentials",
                self.credentials.clone(),
                "where each process finds credentials: env:PREFIX, profile:NAME or anonymous",
            ),
            entry("allow_http", self.allow_http.map(|allow| allow.to_string()), "whether plain http is allowed"),
        ]
    }
}

fn check_reference(value: &str) -> Result<()> {
    let known = value.is_empty() || value == "anonymous" || value.starts_with("env:") || value.starts_with("profile:");
    if known {
        return Ok(());
    }
    // The value is left out of the message: it may be a secret put here by mistake.
    Err(DataFusionError::Configuration(format!(
        "{PREFIX}.credentials is a reference, never a secret: expected env:PREFIX, profile:NAME or anonymous"
    )))
}

fn not_a_bool(value: &str) -> DataFusionError {
    DataFusionError::Configuration(format!("{PREFIX}.allow_http: expected true or false, got {value:?}"))
}

fn unknown_key(key: &str) -> DataFusionError {
    DataFusionError::Configuration(format!(
        "unknown option {PREFIX}.{key}; expected endpoint, region, credentials or allow_http"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_way_through_key_value_pairs() {
        let options = StoreOptions {
            endpoint: Some("http://127.0.0.1:9000".into()),
            credentials: Some("env:LAKE".into()),
            allow_http: Some(true),
            ..StoreOptions::default()
        };
        let mut sent = SessionConfig::new().with_option_extension(options.clone());
        let mut received = SessionConfig::new().with_option_extension(StoreOptions::default());
        for entry in sent.options_mut().entries() {
            if let (true, Some(value)) = (entry.key.starts_with(PREFIX), entry.value) {
                received.options_mut().set(&entry.key, &value).unwrap();
            }
        }
        assert_eq!(StoreOptions::of(&received), options);
    }

    #[test]
    fn a_secret_in_place_of_a_reference_is_refused_and_not_repeated() {
        let mut options = StoreOptions::default();
        let error = options.set("credentials", "AKIASECRET").unwrap_err();
        assert!(error.to_string().contains("env:PREFIX"));
        assert!(!error.to_string().contains("AKIASECRET"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = StoreOptions::default().set("bucket", "x").unwrap_err();
        assert!(error.to_string().contains("tidemill_s3.bucket"));
    }
}

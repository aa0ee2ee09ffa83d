//! Finding credentials on this process: environment variables and the AWS profile files.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::path::PathBuf;

use crate::error::{ConnectorError, Result};

/// What was found. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

/// Credentials and settings that a profile names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) keys: Option<Keys>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Keys(Keys),
    Anonymous,
    /// Nothing in environment or profile: left to the platform (web identity, container, instance).
    Platform,
}

/// Resolves a reference (`env:PREFIX`, `profile:NAME`, `anonymous`, or none for the default chain).
pub(super) fn resolve(reference: Option<&str>) -> Result<(Found, Profile)> {
    match reference {
        Some("anonymous") => Ok((Found::Anonymous, Profile::default())),
        Some(text) if text.starts_with("env:") => {
            let prefix = &text["env:".len()..];
            let keys = from_env(prefix).ok_or_else(|| missing_variables(prefix))?;
            Ok((Found::Keys(keys), Profile::default()))
        }
        Some(text) if text.starts_with("profile:") => named_profile(&text["profile:".len()..]),
        Some(_) => {
            Err(ConnectorError::invalid("tidemill_s3.credentials: expected env:PREFIX, profile:NAME or anonymous"))
        }
        None => default_chain(),
    }
}

fn default_chain() -> Result<(Found, Profile)> {
    if let Some(keys) = from_env("AWS") {
        return Ok((Found::Keys(keys), Profile::default()));
    }
    if let Some(name) = variable("AWS_PROFILE") {
        return named_profile(&name);
    }
    let profile = read_profile("default")?;
    let found = profile.keys.clone().map_or(Found::Platform, Found::Keys);
    Ok((found, profile))
}

fn named_profile(name: &str) -> Result<(Found, Profile)> {
    let profile = read_profile(name)?;
    let keys = profile.keys.clone().ok_or_else(|| {
        ConnectorError::denied(format!(
            "AWS profile {name:?} has no aws_access_key_id and aws_secret_access_key in {} or {}",
            credentials_file().display(),
            config_file().display()
        ))
    })?;
    Ok((Found::Keys(keys), profile))
}

fn from_env(prefix: &str) -> Option<Keys> {
    Some(Keys {
        access_key_id: variable(&format!("{prefix}_ACCESS_KEY_ID"))?,
        secret_access_key: variable(&format!("{prefix}_SECRET_ACCESS_KEY"))?,
        session_token: variable(&format!("{prefix}_SESSION_TOKEN")),
    })
}

fn read_profile(name: &str) -> Result<Profile> {
    let mut values = section(&read(credentials_file())?, &[name.to_owned()]);
    let titles = [format!("profile {name}"), name.to_owned()];
    for (key, value) in section(&read(config_file())?, &titles) {
        values.entry(key).or_insert(value);
    }
    Ok(profile_of(&values))
}

fn profile_of(values: &HashMap<String, String>) -> Profile {
    let get = |key: &str| values.get(key).cloned();
    let keys = match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(Keys { access_key_id, secret_access_key, session_token: get("aws_session_token") })
        }
        _ => None,
    };
    Profile { keys, region: get("region"), endpoint: get("endpoint_url") }
}

/// The key-value lines of the first section with one of `titles`. Lines that are indented belong to
/// a nested setting and are skipped.
fn section(text: &str, titles: &[String]) -> HashMap<String, String> {
    let mut values = HashMap::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(title) = line.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            inside = titles.iter().any(|wanted| wanted == title.trim());
        } else if let (true, false, Some((key, value))) =
            (inside, line.starts_with([' ', '\t', '#', ';']), line.split_once('='))
        {
            values.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    values
}

fn read(path: PathBuf) -> Result<String> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(ConnectorError::PermissionDenied {
            message: format!("cannot read {}: {error}", path.display()),
            source: Some(Box::new(error)),
        }),
    }
}

fn credentials_file() -> PathBuf {
    file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
}

fn config_file() -> PathBuf {
    file("AWS_CONFIG_FILE", "config")
}

fn file(name: &str, default: &str) -> PathBuf {
    variable(name)
        .map_or_else(|| PathBuf::from(variable("HOME").unwrap_or_default()).join(".aws").join(default), PathBuf::from)
}

/// A variable that is set and not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn missing_variables(prefix: &str) -> ConnectorError {
    ConnectorError::denied(format!(
        "no S3 credentials: set {prefix}_ACCESS_KEY_ID and {prefix}_SECRET_ACCESS_KEY on this process"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[default]\naws_access_key_id = A\n[profile lake]\nregion=eu-1\naws_access_key_id=K\n\
        aws_secret_access_key = S=/+\ns3 =\n  endpoint_url = nested\n[other]\nregion=x\n";

    #[test]
    fn a_profile_is_read_up_to_the_next_section() {
        let profile = profile_of(&section(TEXT, &["profile lake".to_owned()]));
        assert_eq!(profile.region.as_deref(), Some("eu-1"));
        assert_eq!(profile.endpoint, None);
        assert_eq!(profile.keys.unwrap().secret_access_key, "S=/+");
    }

    #[test]
    fn half_a_pair_of_keys_is_no_credential() {
        assert_eq!(profile_of(&section(TEXT, &["default".to_owned()])).keys, None);
    }

    #[test]
    fn debug_hides_the_keys() {
        let keys = Keys { access_key_id: "visible?".into(), secret_access_key: "visible?".into(), session_token: None };
        assert!(!format!("{keys:?}").contains("visible"));
    }

    #[test]
    fn missing_variables_are_named() {
        let error = resolve(Some("env:TIDEMILL_NO_SUCH")).unwrap_err();
        assert!(error.to_string().contains("TIDEMILL_NO_SUCH_SECRET_ACCESS_KEY"));
    }
}

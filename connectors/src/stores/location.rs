//! A place on an object store.

use std::fmt;
use std::future::ready;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::{Position, Url};

use super::options::StoreOptions;
use super::registry::Stores;
use crate::error::{ConnectorError, NO_BUCKET, Result};

/// A file or directory on the local disk or on S3, with the options of its store.
///
/// Made from a path (`./warehouse`, `/data/x`) or a URL (`file:///data/x`, `s3://bucket/prefix`).
/// Displays as its canonical URL, which never holds a credential; a relative path is made absolute
/// when it is parsed.
///
/// ```
/// use tidemill_connectors::stores::Location;
///
/// let warehouse = Location::parse("s3://lake/warehouse/")?;
/// assert_eq!(warehouse.join("tables/scored").to_string(), "s3://lake/warehouse/tables/scored");
/// # Ok::<(), tidemill_connectors::ConnectorError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// Canonical: absolute, no trailing slash unless it is the root.
    url: Url,
    options: Arc<StoreOptions>,
}

impl Location {
    /// Parses a path or URL; S3 options come from the environment alone.
    ///
    /// # Errors
    /// A scheme other than `file` and `s3`, or a URL that holds credentials, a query or no bucket.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, StoreOptions::default())
    }

    /// Parses a path or URL; `options` say how to reach S3.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn parse_with(text: &str, options: StoreOptions) -> Result<Self> {
        let url = match text.split_once("://") {
            Some(("file", _)) => parse_url(text)?,
            Some(("s3" | "s3a", rest)) => parse_url(&format!("s3://{rest}"))?,
            Some((scheme, _)) => return Err(unknown_scheme(text, scheme)),
            None => url_of_path(FsPath::new(text))?,
        };
        Ok(Self { url: canonical(url), options: Arc::new(options) })
    }

    /// The same place, with other options.
    pub fn with_options(mut self, options: StoreOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    /// How its store is reached.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// The place below this one; `relative` is split at `/`, and a leading `/` means nothing.
    pub fn join(&self, relative: &str) -> Self {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(relative.split('/').filter(|part| !part.is_empty()));
        }
        Self { url, options: Arc::clone(&self.options) }
    }

    /// The directory that holds this place; the root holds itself.
    pub fn parent(&self) -> Self {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop();
        }
        Self { url: canonical(url), options: Arc::clone(&self.options) }
    }

    /// The last part of the path; empty for a root.
    pub fn name(&self) -> String {
        self.prefix().filename().unwrap_or_default().to_owned()
    }

    /// The canonical URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The canonical URL with a trailing slash, as a directory.
    pub fn directory_url(&self) -> Url {
        let mut url = self.url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        url
    }

    /// Whether it lies on the local disk.
    pub fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// The path on the local disk, when it lies there.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.url.to_file_path().ok()
    }

    /// The store that holds it.
    ///
    /// # Errors
    /// Credentials that are referred to and are not there. Makes no request.
    pub fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        Stores::new(self.options.as_ref().clone()).get(&self.url)
    }

    /// The URL of the store, as DataFusion keys it.
    ///
    /// # Errors
    /// None for a parsed location.
    pub fn store_url(&self) -> Result<ObjectStoreUrl> {
        let text = &self.url[..Position::BeforePath];
        ObjectStoreUrl::parse(text).map_err(|error| ConnectorError::internal(format!("store of {self}: {error}")))
    }

    /// The path within its store.
    pub fn prefix(&self) -> Path {
        // A URL's path is percent-encoded; where it does not decode it is taken as it is.
        Path::from_url_path(self.url.path()).unwrap_or_else(|_| Path::from(self.url.path()))
    }

    /// The whole object.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn read(&self) -> Result<Bytes> {
        self.read_if_exists().await?.ok_or_else(|| ConnectorError::not_found(format!("reading {self}: not found")))
    }

    /// The whole object, or none where there is none.
    ///
    /// # Errors
    /// As [`Location::read`], a missing object excepted. A missing bucket is an error.
    pub async fn read_if_exists(&self) -> Result<Option<Bytes>> {
        match self.store()?.get(&self.prefix()).await {
            Ok(result) => Ok(Some(result.bytes().await.map_err(|e| self.failed("reading", e))?)),
            Err(error) => self.none_if_missing(error),
        }
    }

    /// Size, time and tag of the object, or none where there is none.
    ///
    /// # Errors
    /// As [`Location::read_if_exists`].
    pub async fn head(&self) -> Result<Option<ObjectMeta>> {
        match self.store()?.head(&self.prefix()).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) => self.none_if_missing(error),
        }
    }

    /// Writes the whole object, replacing what was there.
    ///
    /// # Errors
    /// `PermissionDenied` for a path that may not be written.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<()> {
        let payload = PutPayload::from(bytes.into());
        let written = self.store()?.put(&self.prefix(), payload).await;
        written.map(drop).map_err(|error| self.not_written(error))
    }

    /// Writes the object if there is none yet, as one conditional put; false when there is one.
    ///
    /// # Errors
    /// As [`Location::write`].
    pub async fn create(&self, bytes: impl Into<Bytes>) -> Result<bool> {
        let payload = PutPayload::from(bytes.into());
        match self.store()?.put_opts(&self.prefix(), payload, PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.not_written(error)),
        }
    }

    /// Deletes the object; one that is not there is no error.
    ///
    /// # Errors
    /// `PermissionDenied` where it may not be deleted.
    pub async fn delete(&self) -> Result<()> {
        match self.store()?.delete(&self.prefix()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("deleting", error)),
        }
    }

    /// All objects below this place, in the order of their paths.
    ///
    /// # Errors
    /// A missing bucket or refused credentials. A missing directory is an empty one.
    pub async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let listed: object_store::Result<Vec<_>> = self.store()?.list(Some(&self.prefix())).try_collect().await;
        let mut found = match listed {
            Ok(found) => found,
            Err(error) => self.none_if_missing(error)?.unwrap_or_default(),
        };
        // The local disk lists a file as its own content.
        found.retain(|meta| meta.location != self.prefix());
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Whether there is any object below this place.
    ///
    /// # Errors
    /// As [`Location::list`].
    pub async fn is_directory(&self) -> Result<bool> {
        let prefix = self.prefix();
        let mut below = self.store()?.list(Some(&prefix)).try_filter(|meta| ready(meta.location != prefix));
        match below.try_next().await {
            Ok(first) => Ok(first.is_some()),
            Err(error) => Ok(self.none_if_missing(error)?.unwrap_or_default()),
        }
    }

    /// Names of the directories directly below this place, in order.
    ///
    /// # Errors
    /// As [`Location::list`].
    pub async fn list_directories(&self) -> Result<Vec<String>> {
        let listed = self.store()?.list_with_delimiter(Some(&self.prefix())).await;
        let found = match listed {
            Ok(found) => found.common_prefixes,
            Err(error) => self.none_if_missing(error)?.unwrap_or_default(),
        };
        let mut names: Vec<String> = found.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// The place of an object that a listing of this store returned.
    pub fn at(&self, path: &Path) -> Self {
        let mut url = self.url.clone();
        url.set_path("/");
        let root = Self { url, options: Arc::clone(&self.options) };
        root.join(path.as_ref())
    }

    /// The error of doing something (`"reading"`) here.
    pub(crate) fn failed(&self, doing: &str, error: object_store::Error) -> ConnectorError {
        ConnectorError::from_store(format!("{doing} {self}"), error)
    }

    /// Writes make the directories that they need: on the local disk, what is missing is the right to make them.
    pub(crate) fn not_written(&self, error: object_store::Error) -> ConnectorError {
        match self.failed("writing", error) {
            ConnectorError::NotFound { source, .. } if self.is_local() => ConnectorError::PermissionDenied {
                message: format!("writing {self}: the path may not be written: its folder cannot be made"),
                source,
            },
            failed => failed,
        }
    }

    fn none_if_missing<T>(&self, error: object_store::Error) -> Result<Option<T>> {
        let missing = matches!(error, object_store::Error::NotFound { .. });
        match self.failed("reading", error) {
            // A missing object is an answer, a missing bucket is not.
            ConnectorError::NotFound { message, .. } if missing && !message.ends_with(NO_BUCKET) => Ok(None),
            failed => Err(failed),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.url)
    }
}

fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| ConnectorError::invalid(format!("{text:?} is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConnectorError::invalid(
            "a URL must not hold credentials; set AWS_ACCESS_KEY_ID, AWS_PROFILE or tidemill_s3.credentials",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ConnectorError::invalid(format!(
            "{text:?} has a query or fragment; expected a path or scheme://bucket/path"
        )));
    }
    if url.scheme() == "s3" && url.host_str().is_none_or(str::is_empty) {
        return Err(ConnectorError::invalid(format!("{text:?} names no bucket")));
    }
    Ok(url)
}

fn url_of_path(path: &FsPath) -> Result<Url> {
    if path.as_os_str().is_empty() {
        return Err(ConnectorError::invalid("a location must not be empty"));
    }
    let absolute = std::path::absolute(path)
        .map_err(|error| ConnectorError::invalid_because(format!("{} has no absolute path", path.display()), error))?;
    let clean = without_dots(&absolute);
    Url::from_file_path(&clean).map_err(|()| ConnectorError::invalid(format!("{} is not a path", path.display())))
}

/// Resolves `..` by text, as a shell does; symbolic links are left as they are.
fn without_dots(path: &FsPath) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

fn canonical(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(if path.is_empty() { "/" } else { &path });
    url
}

fn unknown_scheme(text: &str, scheme: &str) -> ConnectorError {
    ConnectorError::invalid(format!("{text:?}: no store for {scheme}://; expected a path, file:// or s3://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        Location::parse(text).unwrap().to_string()
    }

    #[test]
    fn paths_and_urls_have_one_canonical_form() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("./w"), format!("file://{}/w", here.display()));
        assert_eq!(parse("/a/../b/"), "file:///b");
        assert_eq!(parse("file:///b/"), "file:///b");
        assert_eq!(parse("s3://bucket"), "s3://bucket/");
        assert_eq!(parse("s3a://bucket/x/"), "s3://bucket/x");
    }

    #[test]
    fn join_parent_and_prefix_agree() {
        let root = Location::parse("s3://bucket").unwrap();
        let child = root.join("a b/ds=2013-11-05/x.parquet");
        assert_eq!(child.prefix().as_ref(), "a b/ds=2013-11-05/x.parquet");
        assert_eq!(child.parent(), root.join("a b/ds=2013-11-05"));
        assert_eq!(child.name(), "x.parquet");
        assert_eq!(root.at(&child.prefix()), child);
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let error = Location::parse("s3://KEY:SECRET@bucket/x").unwrap_err();
        assert!(!error.to_string().contains("SECRET"));
    }

    #[test]
    fn odd_names_keep_their_characters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a%20b ü#1");
        let location = Location::parse(path.to_str().unwrap()).unwrap();
        assert_eq!(location.local_path().unwrap(), path);
    }

    #[tokio::test]
    async fn create_has_one_winner() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::parse(dir.path().to_str().unwrap()).unwrap().join("x");
        assert!(location.create("first").await.unwrap());
        assert!(!location.create("second").await.unwrap());
        assert_eq!(location.read().await.unwrap(), Bytes::from("first"));
        location.delete().await.unwrap();
        location.delete().await.unwrap();
        assert_eq!(location.read_if_exists().await.unwrap(), None);
    }
}

//! The registry through which DataFusion finds a store by URL.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use dashmap::DashMap;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::{Position, Url};

use super::options::StoreOptions;
use super::s3;
use crate::error::{ConnectorError, Result};

type Key = (String, [u8; 32]);

/// All clients of this process. Bounded by the number of buckets and option sets that a process
/// touches; an entry is a connection pool, and never grows.
static CLIENTS: LazyLock<DashMap<Key, Arc<dyn ObjectStore>>> = LazyLock::new(DashMap::new);

/// Finds stores by URL (`file://`, `s3://bucket`), opening each once per process and set of options.
///
/// Cheap to make, so a session per query may have its own. Stores registered by hand come first and
/// belong to this instance alone.
#[derive(Clone, Default)]
pub struct Stores {
    options: StoreOptions,
    registered: Arc<DashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// A registry whose S3 clients use `options`.
    pub fn new(options: StoreOptions) -> Self {
        Self { options, registered: Arc::default() }
    }

    /// The store that holds `url`; its path is ignored.
    ///
    /// # Errors
    /// An unknown scheme, or credentials that are referred to and are not there. Makes no request.
    pub fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let authority = authority(url);
        if let Some(store) = self.registered.get(&authority) {
            return Ok(Arc::clone(store.value()));
        }
        let key = (authority, fingerprint(&self.options));
        if let Some(store) = CLIENTS.get(&key) {
            return Ok(Arc::clone(store.value()));
        }
        let store = open(url, &self.options)?;
        Ok(Arc::clone(CLIENTS.entry(key).or_insert(store).value()))
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered.insert(authority(url), store)
    }

    fn deregister_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let removed = self.registered.remove(&authority(url));
        removed
            .map(|(_, store)| store)
            .ok_or_else(|| DataFusionError::Configuration(format!("no store was registered for {url}")))
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        Ok(self.get(url)?)
    }
}

/// A builder of a runtime environment that finds stores by `options`; `temp_dir` is where it spills
/// (default: the system's temporary directory). Add a memory pool before building.
pub fn runtime_env_builder(options: StoreOptions, temp_dir: Option<PathBuf>) -> RuntimeEnvBuilder {
    let builder = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(Stores::new(options)));
    match temp_dir {
        Some(path) => builder.with_temp_file_path(path),
        None => builder,
    }
}

/// A runtime environment that finds stores by `options`, with DataFusion's default memory pool.
///
/// # Errors
/// When the temporary directory cannot be prepared.
pub fn runtime_env(options: StoreOptions, temp_dir: Option<PathBuf>) -> DataFusionResult<Arc<RuntimeEnv>> {
    runtime_env_builder(options, temp_dir).build_arc()
}

fn open(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
    match url.scheme() {
        "file" => Ok(Arc::new(LocalFileSystem::new())),
        "s3" | "s3a" => match url.host_str() {
            Some(bucket) => s3::build(bucket, options),
            None => Err(ConnectorError::invalid(format!("{url} names no bucket"))),
        },
        scheme => {
            Err(ConnectorError::invalid(format!("no object store for {scheme}://; expected a path, file:// or s3://")))
        }
    }
}

fn authority(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort])
}

/// Options and the environment that completes them, as one digest: after a rotation of keys in the
/// environment a new client is made. The digest cannot be turned back into a key.
fn fingerprint(options: &StoreOptions) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(&format!("{options:?}"));
    let prefix = options.credentials.as_deref().and_then(|r| r.strip_prefix("env:"));
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with("AWS_") || prefix.is_some_and(|prefix| key.starts_with(prefix)))
        .collect();
    variables.sort();
    for (key, value) in &variables {
        add(key);
        add(value);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(options: StoreOptions) -> Stores {
        Stores::new(options)
    }

    fn with_endpoint(port: u16) -> StoreOptions {
        StoreOptions {
            endpoint: Some(format!("http://127.0.0.1:{port}")),
            credentials: Some("anonymous".into()),
            ..StoreOptions::default()
        }
    }

    #[test]
    fn one_client_per_bucket_and_options() {
        let url = Url::parse("s3://bucket/some/key").unwrap();
        let first = s3(with_endpoint(1)).get(&url).unwrap();
        let again = s3(with_endpoint(1)).get(&url).unwrap();
        let other = s3(with_endpoint(2)).get(&url).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn an_unknown_scheme_is_refused() {
        let error = Stores::default().get(&Url::parse("ftp://x/y").unwrap()).unwrap_err();
        assert!(error.to_string().contains("ftp"));
    }

    #[test]
    fn a_registered_store_comes_first_and_can_be_taken_back() {
        let stores = Stores::default();
        let url = Url::parse("memory://m/").unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        stores.register_store(&url, Arc::clone(&store));
        assert!(Arc::ptr_eq(&stores.get(&url).unwrap(), &store));
        stores.deregister_store(&url).unwrap();
        assert!(stores.get(&url).is_err());
    }
}

//! From flags to places: a folder, a store, or both of one server.
//!
//! In a pod of the operator's, where all has its fixed place, no flags are needed.

use super::args::PlaceArgs;
use super::catalogue::{Catalogue, CatalogueError};
use super::disk::Disk;
use super::registry;
use super::shelf::Shelf;
use super::store::Store;
use crate::config::{
    ConfigError, DEFAULT_DATA_DIR, Environment, SessionDocument, StoreConfig, StoreFiles, check_ca_file, region_of,
    store_of,
};
use std::io;
use std::path::{Path, PathBuf};
use streamsession_api::{Retention, StorageMode};

/// Why there is no place to look at.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Folder(#[from] CatalogueError),
    #[error("--store-credentials-dir is given, and no store: name one by --endpoint and --bucket, or by --session")]
    NoStore,
    #[error("cannot begin: {0}")]
    Runtime(#[from] io::Error),
}

/// Where recordings lie, as the flags say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Places {
    pub(super) folder: Option<Folder>,
    pub(super) store: Option<StoreConfig>,
    /// The session's rules.
    pub(super) retention: Option<Retention>,
}

/// A folder with recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) recordings: PathBuf,
    /// Holds the server's registry, if there is one.
    pub(super) data: Option<PathBuf>,
    /// It must be there: somebody named it, and knows.
    pub(super) named: bool,
    /// No server has made it yet where it is not there.
    pub(super) in_pod: bool,
}

impl Folder {
    /// The server's registry, if there is one.
    pub(super) fn registry(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|data| data.join(registry::FILE_NAME)).filter(|path| path.is_file())
    }
}

/// Where the operator puts things in a pod, below `root`: as if they had been named.
pub(super) fn in_pod(args: &PlaceArgs, environment: &Environment, root: &Path) -> PlaceArgs {
    let (session, data) = (root.join("etc/streamsession/session.yaml"), root.join("data"));
    let silent = args.session.is_none() && args.data_dir.is_none() && args.dir.is_none() && args.endpoint.is_none();
    if !silent || !environment.in_cluster || !session.is_file() || !data.is_dir() {
        return args.clone();
    }
    let keys = Some(root.join("etc/streamsession-store")).filter(|keys| keys.is_dir());
    let authorities = Some(root.join("etc/streamsession-store-ca/ca.crt")).filter(|file| file.is_file());
    PlaceArgs {
        session: Some(session),
        data_dir: Some(data),
        store_credentials_dir: args.store_credentials_dir.clone().or(keys),
        store_ca_file: args.store_ca_file.clone().or(authorities),
        in_pod: true,
        ..args.clone()
    }
}

/// Reads the session that the flags name, if one is, and touches nothing else.
pub(super) fn places(args: &PlaceArgs, environment: &Environment) -> Result<Places, PlaceError> {
    environment.check_store_endpoint()?;
    let session = args.session.as_deref().map(SessionDocument::read).transpose()?;
    let store = match (&args.endpoint, &args.bucket) {
        (Some(endpoint), Some(bucket)) => Some(given(args, environment, endpoint, bucket)?),
        _ => session.as_ref().map(|session| store_of(session, files(args), environment)).transpose()?.flatten(),
    };
    if store.is_none() && args.store_credentials_dir.is_some() {
        return Err(PlaceError::NoStore);
    }
    if let Some(path) = store.as_ref().and_then(|store| store.ca_file.as_deref()) {
        check_ca_file(path)?;
    }
    let folder = match (&args.dir, &args.data_dir) {
        (Some(dir), _) => {
            let data = dir.canonicalize().ok().as_deref().and_then(Path::parent).map(Path::to_owned);
            Some(Folder { recordings: dir.clone(), data, named: true, in_pod: false })
        }
        (None, data) if data.is_some() || args.endpoint.is_none() => {
            let named = data.is_some() || environment.recordings_dir.is_some();
            let data = data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
            let recordings = environment.recordings_dir.as_ref().map_or_else(|| data.join("recordings"), PathBuf::from);
            Some(Folder { recordings, data: Some(data), named, in_pod: args.in_pod })
        }
        _ => None,
    };
    let retention = session.map(|session| session.spec().recording.retention.clone());
    Ok(Places { folder, store, retention })
}

fn files(args: &PlaceArgs) -> StoreFiles {
    StoreFiles { credentials_dir: args.store_credentials_dir.clone(), ca_file: args.store_ca_file.clone() }
}

fn given(
    args: &PlaceArgs,
    environment: &Environment,
    endpoint: &str,
    bucket: &str,
) -> Result<StoreConfig, ConfigError> {
    let slash = if args.prefix.is_empty() || args.prefix.ends_with('/') { "" } else { "/" };
    Ok(StoreConfig {
        mode: StorageMode::External,
        endpoint: endpoint.to_owned(),
        region: region_of(endpoint, &args.region),
        bucket: bucket.to_owned(),
        path_style: args.path_style,
        prefix: format!("{}{slash}", args.prefix.trim_start_matches('/')),
        credentials_dir: args.store_credentials_dir.clone(),
        ca_file: args.store_ca_file.clone(),
        proxies: environment.proxies()?,
        create_bucket: false,
    })
}

/// Opens them.
pub(super) fn open(places: &Places) -> Result<Shelf, PlaceError> {
    let mut shelf: Vec<Box<dyn Catalogue>> = Vec::new();
    if let Some(folder) = &places.folder {
        match Disk::open(&folder.recordings, folder.registry()) {
            Ok(disk) => shelf.push(Box::new(disk)),
            // Beside a store it need not be there.
            Err(CatalogueError::Disk { source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    && (folder.in_pod || !folder.named && places.store.is_some()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(store) = &places.store {
        shelf.push(Box::new(Store::connect(store)?));
    }
    // A store in the pod lies on the volume that the folder lies on.
    let one_disk = places.store.as_ref().is_none_or(|store| store.mode == StorageMode::Managed);
    Ok(Shelf::new(shelf, one_disk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn session(folder: &Path, spec: &str) -> PathBuf {
        let path = folder.join("session.yaml");
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: door}}\nspec: {spec}\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn without_flags_it_is_the_servers_own_folder() {
        let found = places(&PlaceArgs::default(), &environment(&[])).unwrap();
        assert_eq!(found.folder.unwrap().recordings, Path::new("streamsession-data/recordings"));
        assert_eq!(found.store, None);
        let found = places(&PlaceArgs::default(), &environment(&[("MEDIA_RECORDINGS_DIR", "/rec")])).unwrap();
        assert_eq!(found.folder.unwrap().recordings, Path::new("/rec"));
    }

    #[test]
    fn a_session_names_the_store_that_the_server_has() {
        let place = tempfile::tempdir().unwrap();
        let args = PlaceArgs {
            session: Some(session(place.path(), "{auth: {secretRef: {name: s, key: k}}}")),
            data_dir: Some("/data".into()),
            store_credentials_dir: Some("/keys".into()),
            ..PlaceArgs::default()
        };
        let in_pod = environment(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("POD_NAMESPACE", "cams")]);
        let found = places(&args, &in_pod).unwrap();
        let store = found.store.unwrap();
        assert_eq!((store.endpoint.as_str(), store.prefix.as_str()), ("http://127.0.0.1:9000", "cams/door/"));
        assert_eq!(store.credentials_dir, Some("/keys".into()));
        assert_eq!(found.folder.unwrap().recordings, Path::new("/data/recordings"));
        assert!(found.retention.is_some());
        assert!(matches!(places(&args, &environment(&[])), Err(PlaceError::NoStore)), "outside it is a folder");
    }

    #[test]
    fn in_a_pod_everything_has_its_place() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["data", "etc/streamsession", "etc/streamsession-store"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let pod = environment(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("POD_NAMESPACE", "cams")]);
        let none = PlaceArgs::default();
        assert!(in_pod(&none, &pod, root.path()).session.is_none(), "it is not the operator's");
        session(&root.path().join("etc/streamsession"), "{}");
        let found = places(&in_pod(&none, &pod, root.path()), &pod).unwrap();
        assert_eq!(found.folder.unwrap().recordings, root.path().join("data/recordings"));
        assert_eq!(found.store.unwrap().credentials_dir, Some(root.path().join("etc/streamsession-store")));
        assert!(in_pod(&none, &environment(&[]), root.path()).session.is_none());
        let named = PlaceArgs { dir: Some("/rec".into()), ..none };
        assert_eq!(in_pod(&named, &pod, root.path()).session, None);
    }

    #[test]
    fn from_another_pod_the_managed_store_is_where_the_environment_says() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["data", "etc/streamsession", "etc/streamsession-store"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        session(&root.path().join("etc/streamsession"), "{}");
        let variables = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("POD_NAMESPACE", "cams")];
        let endpoint = |url| environment(&[variables[0], variables[1], ("MEDIA_STORE_ENDPOINT", url)]);
        let found = |pod: &Environment| places(&in_pod(&PlaceArgs::default(), pod, root.path()), pod);
        let there = found(&endpoint("http://door-store.cams.svc:9000/")).unwrap();
        let store = there.store.as_ref().unwrap();
        assert_eq!((store.endpoint.as_str(), store.mode), ("http://door-store.cams.svc:9000", StorageMode::Managed));
        assert_eq!((store.prefix.as_str(), store.bucket.as_str()), ("cams/door/", "recordings"));
        let error = found(&endpoint("door-store:9000")).unwrap_err().to_string();
        assert!(error.contains("MEDIA_STORE_ENDPOINT") && error.contains("http://"), "{error}");
        let shelf = open(&there).expect("no server has run there yet, so there is no folder");
        assert!(!shelf.frees_space());
        fs::create_dir(root.path().join("data/recordings")).unwrap();
        assert!(open(&there).unwrap().frees_space(), "objects and folders lie on one volume");
    }

    #[test]
    fn a_store_that_is_named_stands_alone() {
        let args = PlaceArgs {
            endpoint: Some("http://s3:9000".into()),
            bucket: Some("b".into()),
            prefix: "/cams/door".into(),
            path_style: true,
            ..PlaceArgs::default()
        };
        let found = places(&args, &environment(&[])).unwrap();
        assert_eq!(found.folder, None);
        assert_eq!(found.store.unwrap().prefix, "cams/door/");
        let both = PlaceArgs { dir: Some("/rec".into()), ..args };
        assert_eq!(places(&both, &environment(&[])).unwrap().folder.unwrap().recordings, Path::new("/rec"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_what_to_do() {
        let args = PlaceArgs { data_dir: Some("/no/such/folder".into()), ..PlaceArgs::default() };
        let error = open(&places(&args, &environment(&[])).unwrap()).err().unwrap().to_string();
        assert!(error.contains("/no/such/folder/recordings") && error.contains("--data-dir"), "{error}");
    }
}

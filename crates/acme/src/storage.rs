//! The folder of accounts and certificates.
//!
//! `STORAGE/AUTHORITY/account.json` is the account, `STORAGE/AUTHORITY/HOST.pem` a private key and its chain, in one
//! file so that they are never apart. Files are for their owner alone. They are replaced in one step and are on the
//! disk before that, so that neither a crash nor another process ever sees a part of one. Who changes a file holds the
//! lock beside it, which the system frees when its holder ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use net::Lock;
use net::tls::{Certificate, CertificateError};

/// The file of the account.
const ACCOUNT: &str = "account.json";

/// The part of the folder that belongs to one authority.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
}

/// Something that went wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub(crate) struct StorageError {
    path: PathBuf,
    cause: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    |cause| StorageError { path: path.to_owned(), cause }
}

/// The path with this at its end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

impl Storage {
    /// The part of `folder` for the authority with this directory. Nothing is touched yet.
    pub(crate) fn new(folder: &Path, directory: &str) -> Self {
        let name = directory.trim_start_matches("https://");
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        let name: String = name.trim_start_matches('.').chars().map(plain).collect();
        Self { folder: folder.join(name) }
    }

    fn certificate_path(&self, host: &str) -> PathBuf {
        self.folder.join(format!("{host}.pem"))
    }

    fn account_path(&self) -> PathBuf {
        self.folder.join(ACCOUNT)
    }

    /// The certificate stored for a host; `None` when there is none.
    ///
    /// # Errors
    /// When what is stored cannot be used, because it has expired for one.
    pub(crate) fn certificate(&self, host: &str) -> Result<Option<Certificate>, CertificateError> {
        let path = self.certificate_path(host);
        if !path.exists() {
            return Ok(None);
        }
        Certificate::load(&path, &path, SystemTime::now()).map(Some)
    }

    /// Stores a certificate with its key, both in PEM.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(crate) fn store_certificate(
        &self,
        host: &str,
        key: &str,
        chain: &str,
        lock: &Lock,
    ) -> Result<(), StorageError> {
        self.replace(&self.certificate_path(host), format!("{key}{chain}").as_bytes(), lock)
    }

    /// The account, as it was stored.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn account(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.account_path();
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Stores the account.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(crate) fn store_account(&self, account: &[u8], lock: &Lock) -> Result<(), StorageError> {
        self.replace(&self.account_path(), account, lock)
    }

    /// Puts an account aside that the authority does not know any more.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(crate) fn retire_account(&self, _lock: &Lock) -> Result<(), StorageError> {
        let path = self.account_path();
        std::fs::rename(&path, beside(&path, ".unknown")).map_err(at(&path))
    }

    /// Takes the lock on a host's certificate; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub(crate) fn lock_host(&self, host: &str) -> Result<Option<Lock>, StorageError> {
        self.lock(&self.certificate_path(host))
    }

    /// Takes the lock on the account; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub(crate) fn lock_account(&self) -> Result<Option<Lock>, StorageError> {
        self.lock(&self.account_path())
    }

    fn lock(&self, file: &Path) -> Result<Option<Lock>, StorageError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(at(&self.folder))?;
        let path = beside(file, ".lock");
        Lock::attempt(&path).map_err(at(&path))
    }

    fn replace(&self, path: &Path, content: &[u8], _lock: &Lock) -> Result<(), StorageError> {
        let fresh = beside(path, ".new");
        let write = || {
            // One left behind by a crash may have other rights.
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(at(path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use testkit::{Authority, TempDir};

    use super::*;

    fn storage(dir: &TempDir) -> Storage {
        Storage::new(&dir.path().join("acme"), "https://ca.example.com:14000/dir?x=../y")
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_stored_is_found_and_belongs_to_its_owner_alone() {
        let dir = TempDir::new().unwrap();
        let storage = storage(&dir);
        assert_eq!(storage.folder, dir.path().join("acme/ca.example.com_14000_dir_x_.._y"));
        assert_eq!(storage.certificate("shop.example.com").unwrap(), None);
        assert!(storage.account().unwrap().is_none());
        assert!(!storage.folder.exists(), "looking touches nothing");
        let authority = Authority::new("test").unwrap();
        let issued = authority.issue("shop", &["shop.example.com"]).unwrap();
        let text = |path| std::fs::read_to_string(path).unwrap();
        let (key, chain) = (text(&issued.key), text(&issued.certificate));
        let lock = storage.lock_host("shop.example.com").unwrap().unwrap();
        // A file that a crash has left behind, open to everybody, is not written into.
        let left = beside(&storage.certificate_path("shop.example.com"), ".new");
        std::fs::write(&left, "half").unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o666)).unwrap();
        storage.store_certificate("shop.example.com", &key, &chain, &lock).unwrap();
        storage.store_account(b"{}", &storage.lock_account().unwrap().unwrap()).unwrap();
        let found = storage.certificate("shop.example.com").unwrap().unwrap();
        assert_eq!(found.names(), ["shop.example.com"]);
        assert_eq!(storage.account().unwrap().unwrap(), b"{}");
        assert_eq!(mode(&storage.folder), 0o700);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&storage.folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        names.sort_unstable();
        assert_eq!(names, ["account.json", "account.json.lock", "shop.example.com.pem", "shop.example.com.pem.lock"]);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = TempDir::new().unwrap();
        let storage = storage(&dir);
        let lock = storage.lock_host("a.example.com").unwrap();
        assert!(lock.is_some());
        assert!(storage.lock_host("a.example.com").unwrap().is_none());
        assert!(storage.lock_host("b.example.com").unwrap().is_some());
        drop(lock);
        assert!(storage.lock_host("a.example.com").unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let dir = TempDir::new().unwrap();
        let storage = storage(&dir);
        let lock = storage.lock_host("a.example.com").unwrap().unwrap();
        storage.store_certificate("a.example.com", "", "no certificate", &lock).unwrap();
        let error = storage.certificate("a.example.com").unwrap_err().to_string();
        assert!(error.contains("a.example.com.pem: holds no certificate"), "{error}");
        let blocked = Storage::new(&dir.write("file", "").unwrap(), "https://ca.example.com/dir");
        let error = blocked.lock_host("a.example.com").unwrap_err().to_string();
        assert!(error.contains("ca.example.com_dir: "), "{error}");
    }
}

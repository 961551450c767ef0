//! Files into and out of containers, as tar archives. Knows containers by id only.

use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::failure::{self, plain};
use super::job::quoted;
use super::node;
use crate::runtime::{NodeFile, Place, Result};

/// Where a node's files are, the same in every container.
pub(super) const ROOT: &str = "/replab";
/// The data directory.
pub(super) const DATA: &str = "/replab/data";
/// Where another one is filled that is to take its place.
pub(super) const NEW_DATA: &str = "/replab/data.new";
/// Files beside it.
pub(super) const PRIVATE: &str = "/replab/private";
/// Is there when a node's first files are: see `node.sh`.
const LAID: &str = "/replab/laid";
/// Isn't empty when a container that is started is to be held: see `node.sh`.
const HELD: &str = "/replab/held";
/// A longer file isn't read.
const READ_BYTES: usize = 16 * 1024 * 1024;
/// How often a file is asked for whose answer can't be understood, and after how long again.
const READ_TRIES: usize = 5;
const READ_AGAIN: Duration = Duration::from_millis(200);

/// The server's account in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// User id.
    pub(super) uid: u64,
    /// Group id.
    pub(super) gid: u64,
}

/// The path of a place inside the container.
pub(super) fn path(place: &Place) -> String {
    match place {
        Place::Data(name) => format!("{DATA}/{name}"),
        Place::Private(name) => format!("{PRIVATE}/{name}"),
    }
}

/// A name that stays below its folder.
fn check(place: &Place) -> Result<()> {
    let (Place::Data(name) | Place::Private(name)) = place;
    let good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if name.split('/').all(good) {
        Ok(())
    } else {
        Err(plain("place a file", format!("`{name}` leaves the node's folder")))
    }
}

/// An archive in the making; all its entries belong to one account.
pub(super) struct Pack {
    tar: tar::Builder<Vec<u8>>,
    account: Account,
    now: u64,
}

impl Pack {
    /// An empty archive.
    pub(super) fn new(account: Account) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { tar: tar::Builder::new(Vec::new()), account, now }
    }

    /// A folder.
    pub(super) fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        self.entry(path, mode, tar::EntryType::Directory, &[])
    }

    /// A file.
    pub(super) fn file(&mut self, path: &str, mode: u32, text: &str) -> Result<()> {
        self.entry(path, mode, tar::EntryType::Regular, text.as_bytes())
    }

    /// A node's own files, readable by the server only, with the folders between.
    pub(super) fn node_files(&mut self, files: &[NodeFile]) -> Result<()> {
        for NodeFile { place, text } in files {
            check(place)?;
            let path = path(place);
            let (Place::Data(name) | Place::Private(name)) = place;
            let base = path.len() - name.len();
            for (at, _) in name.match_indices('/') {
                self.dir(&path[..base + at], 0o700)?;
            }
            self.file(&path, 0o600, text)?;
        }
        Ok(())
    }

    /// The folders of a node with no data yet, and its first process's script.
    pub(super) fn skeleton(&mut self) -> Result<()> {
        for dir in [ROOT, DATA, PRIVATE] {
            self.dir(dir, 0o700)?;
        }
        self.file("/replab/node.sh", 0o500, include_str!("node.sh"))
    }

    /// Says that the node's first files are there.
    pub(super) fn laid(&mut self) -> Result<()> {
        self.file(LAID, 0o600, "")
    }

    /// Says whether the container is to be held when it is started.
    pub(super) fn held(&mut self, held: bool) -> Result<()> {
        self.file(HELD, 0o600, if held { "held" } else { "" })
    }

    fn entry(&mut self, path: &str, mode: u32, kind: tar::EntryType, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.account.uid);
        header.set_gid(self.account.gid);
        header.set_mtime(self.now);
        header.set_size(bytes.len() as u64);
        let name = path.trim_start_matches('/');
        self.tar.append_data(&mut header, name, bytes).map_err(|err| plain(format!("pack {path}"), err.to_string()))
    }

    /// Lays the archive into a container.
    pub(super) async fn upload(self, docker: &Docker, id: &str, what: &str) -> Result<()> {
        let bytes = self.tar.into_inner().map_err(|err| plain(what, err.to_string()))?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let sent = docker.upload_to_container(id, Some(options), bollard::body_full(Bytes::from(bytes))).await;
        sent.map_err(|err| failure::engine(what, &err))
    }
}

/// A shell script that lays a node's first files, for the server's own user.
pub(super) fn script(files: &[NodeFile]) -> Result<String> {
    let mut script = String::new();
    for NodeFile { place, text } in files {
        check(place)?;
        if text.contains('\0') {
            return Err(plain("place a file", "its text has a zero byte"));
        }
        let path = path(place);
        let (Place::Data(name) | Place::Private(name)) = place;
        // Writing to a String can't fail.
        if let Some((folder, _)) = path.rsplit_once('/').filter(|_| name.contains('/')) {
            let _ = writeln!(script, "mkdir -p {} || exit 125", quoted(folder));
        }
        let _ = writeln!(script, "printf %s {} >{} || exit 125", quoted(text), quoted(&path));
    }
    let _ = writeln!(script, ": >{LAID}");
    Ok(script)
}

/// The text of one file of a container; None when it isn't there, which only an engine's "not found" says. An answer that has no whole
/// file in it says nothing: it is asked for again, and then an error.
pub(super) async fn read(docker: &Docker, id: &str, path: &str, what: &str) -> Result<Option<String>> {
    let mut left = READ_TRIES;
    loop {
        left -= 1;
        match fetch(docker, id, path).await {
            Ok(packed) if packed.len() > READ_BYTES => {
                return Err(plain(what, format!("{path} has more than {READ_BYTES} bytes")));
            }
            Ok(packed) => match only_file(&packed) {
                Ok(text) => return Ok(Some(text)),
                Err(why) if left == 0 => {
                    return Err(plain(what, format!("the engine's answer can't be understood: {why}")));
                }
                Err(why) => tracing::debug!(what, path, %why, "the engine's answer can't be understood"),
            },
            Err(err) if failure::is_missing(&err) => {
                // It may mean the container as well.
                node::state(docker, id, what).await?;
                return Ok(None);
            }
            Err(err) => return Err(failure::engine(what, &err)),
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// What the engine sends, and not much more than may be read.
async fn fetch(docker: &Docker, id: &str, path: &str) -> std::result::Result<Vec<u8>, Error> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let mut parts = Box::pin(docker.download_from_container(id, Some(options)));
    let mut packed = Vec::new();
    while let Some(part) = parts.try_next().await? {
        packed.extend_from_slice(&part);
        if packed.len() > READ_BYTES {
            break;
        }
    }
    Ok(packed)
}

/// The one file that an archive is there for, whole.
fn only_file(packed: &[u8]) -> std::io::Result<String> {
    let mut archive = tar::Archive::new(packed);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != entry.size() {
                return Err(std::io::Error::other("the file in it is cut short"));
            }
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Err(std::io::Error::other("there is no file in it"))
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    fn file(place: Place) -> NodeFile {
        NodeFile { place, text: "x".into() }
    }

    #[test]
    fn files_belong_to_the_server_alone() {
        let mut pack = Pack::new(Account { uid: 70, gid: 71 });
        pack.node_files(&[file(Place::Data("conf.d/a.conf".into())), file(Place::Private("passfile".into()))])
            .expect("good names");
        let bytes = pack.tar.into_inner().expect("in memory");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let told = archive.entries().expect("entries").map(|entry| {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let ids = (header.uid().expect("uid"), header.gid().expect("gid"));
            assert_eq!(ids, (70, 71));
            (entry.path().expect("a path").display().to_string(), header.mode().expect("a mode"))
        });
        let told: Vec<_> = told.collect();
        let want =
            [("replab/data/conf.d", 0o700), ("replab/data/conf.d/a.conf", 0o600), ("replab/private/passfile", 0o600)];
        assert_eq!(told, want.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn a_script_lays_files_and_says_so_last() {
        let text = "it's $HOME\nand `more`\n".to_owned();
        let file = NodeFile { place: Place::Data("conf.d/a.conf".into()), text };
        let laid = script(&[file]).expect("a script");
        assert!(
            laid.starts_with("mkdir -p '/replab/data/conf.d' || exit 125\nprintf %s 'it'\\''s $HOME\nand `more`\n' >")
        );
        assert!(laid.ends_with("\n: >/replab/laid\n"));
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut pack = Pack::new(Account { uid: 1, gid: 1 });
        pack.file("/replab/x", 0o600, text).expect("a file");
        pack.tar.into_inner().expect("in memory")
    }

    async fn read_of(answers: Vec<(u16, Vec<u8>)>, container: u16) -> Result<Option<String>> {
        let mut all: Vec<_> =
            answers.into_iter().map(|(status, body)| ("GET", "/containers/c1/archive", status, body)).collect();
        all.push(("GET", "/containers/c1/json", container, br#"{"Id":"c1"}"#.to_vec()));
        read(&Scripted::new(all).docker, "c1", "/replab/x", "read x").await
    }

    #[tokio::test]
    async fn only_not_found_means_that_a_file_is_missing() {
        let missing = || (404, br#"{"message":"whatever"}"#.to_vec());
        assert_eq!(read_of(vec![(200, packed("a"))], 200).await.unwrap().as_deref(), Some("a"));
        assert_eq!(read_of(vec![missing()], 200).await.unwrap(), None);
        assert!(read_of(vec![missing()], 404).await.is_err(), "the container is missing");
        assert!(read_of(vec![(500, b"{}".to_vec())], 200).await.is_err());
        // Nothing at all, no file, half a file: the first may mend itself, and else it is an error.
        let empty = (200, Vec::new());
        assert_eq!(read_of(vec![empty.clone(), (200, packed("b"))], 200).await.unwrap().as_deref(), Some("b"));
        let why = read_of(vec![empty], 200).await.unwrap_err();
        assert!(why.why.contains("there is no file in it"), "{why}");
        let short = packed(&"x".repeat(2000))[..1024].to_vec();
        assert!(read_of(vec![(200, short)], 200).await.is_err());
    }

    #[test]
    fn no_name_leads_out_of_the_node() {
        for name in ["", "../x", "/etc/passwd", "a/../../b", "a//b", "."] {
            assert!(check(&Place::Data(name.into())).is_err(), "{name}");
        }
    }
}

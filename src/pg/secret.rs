//! The lab's passwords: made from the operating system's randomness, never shown, never sent to a server in clear text.
//! Knows no connection.
//!
//! # How a cluster that was cloned from a shared template gets its own passwords
//!
//! Every lab has passwords of its own, but its servers begin as copies of one template, and somebody must be let in to
//! set them. What was weighed (PostgreSQL 15, this machine):
//!
//! - a password everybody knows in the template: for some 20 ms any user of the machine could come in as superuser and
//!   stay. Refused.
//! - `postgres --single` on each lab's primary before its first start: 40 ms (measured), and with Docker a whole
//!   container run more.
//! - `trust` or `peer` on the unix socket: the lab's connections are TCP; a container's socket isn't reachable from here.
//! - `cert`: needs TLS on every control connection and a certificate authority for each lab.
//!
//! Chosen: a [`TemplateKey`], random for each cache (that is, each user of the machine), kept in one file of mode 0600
//! beside the templates. Only its SCRAM verifier is in the template, from which nobody can log in. The first control
//! connection uses it and at once gives the roles this lab's passwords, again as verifiers ([`Passwords::statements`]):
//! one round trip, and the WAL takes it to the standbys. The template lets only the control role in; the writer's and
//! the replication role have no password before that, so nothing but the control connection works until it is done. A
//! standby keeps the template's verifier until it has replayed the change: its control connection tries one key and
//! then the other. Without the file there is another key, so another template: it can't get lost.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::quote::literal;
use super::sql;

/// A password. Can't be printed by accident: `Debug` and `Display` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// 24 random letters and digits (142 bits), from the operating system's source of randomness.
    pub fn random() -> io::Result<Self> {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut source = fs::File::open("/dev/urandom")?;
        let mut text = String::with_capacity(24);
        let mut byte = [0_u8; 1];
        while text.len() < 24 {
            source.read_exact(&mut byte)?;
            // The top two bits are dropped, and the two values past the alphabet, so that every letter is equally likely.
            if let Some(letter) = ALPHABET.get(usize::from(byte[0] & 0x3f)) {
                text.push(char::from(*letter));
            }
        }
        Ok(Self(text))
    }

    /// A password that was chosen elsewhere (a test, a file).
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for a passfile or for the handshake. Say it as seldom as possible.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the server stores instead of the password (manual 53.8 `pg_authid.rolpassword`, RFC 5803): `SCRAM-SHA-256$1:…`.
    ///
    /// One round of hashing. Thousands are to hinder whoever guesses passwords that people chose; nobody guesses 142 random bits,
    /// and 4,096 rounds cost each log-in of a server or of psql some 10 ms of CPU (measured, PostgreSQL 15).
    pub fn verifier(&self) -> io::Result<String> {
        let salt: [u8; 16] = random_bytes()?;
        let salted = keyed(self.0.as_bytes(), &[&salt[..], &1_u32.to_be_bytes()].concat());
        let stored = Sha256::digest(keyed(&salted, b"Client Key"));
        let [salt, stored, server] = [&salt[..], &stored, &keyed(&salted, b"Server Key")].map(|b| STANDARD.encode(b));
        Ok(format!("SCRAM-SHA-256$1:{salt}${stored}:{server}"))
    }
}

fn keyed(key: &[u8], text: &[u8]) -> [u8; 32] {
    let keyed = Hmac::<Sha256>::new_from_slice(key).expect("any length of key is good");
    keyed.chain_update(text).finalize().into_bytes().into()
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// One lab's passwords, one for each role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    /// Of `replab`, the control role.
    pub control: Secret,
    /// Of `replab_writer`.
    pub writer: Secret,
    /// Of `replab_lesson`, which lessons run their SQL as.
    pub lesson: Secret,
    /// Of `replab_repl`, which standbys, base backups and rewinds log in as.
    pub replication: Secret,
}

impl Passwords {
    /// New ones.
    pub fn random() -> io::Result<Self> {
        let [control, writer, lesson, replication] =
            [Secret::random()?, Secret::random()?, Secret::random()?, Secret::random()?];
        Ok(Self { control, writer, lesson, replication })
    }

    /// The statements that give the roles these passwords, as verifiers computed here: no password reaches a server's
    /// log or its statistics.
    pub fn statements(&self) -> io::Result<String> {
        let roles = [
            (sql::CONTROL_ROLE, &self.control),
            (sql::WRITER_ROLE, &self.writer),
            (sql::LESSON_ROLE, &self.lesson),
            (sql::REPL_ROLE, &self.replication),
        ];
        let set = |(role, secret): (_, &Secret)| Ok(sql::set_verifier(role, &secret.verifier()?));
        Ok(roles.into_iter().map(set).collect::<io::Result<Vec<_>>>()?.join("\n"))
    }
}

/// The key of a template: see the module's page.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateKey {
    /// Lets the first control connection in.
    pub secret: Secret,
    /// What the template's `pg_authid` has for it.
    verifier: String,
}

impl fmt::Debug for TemplateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TemplateKey(hidden)")
    }
}

impl TemplateKey {
    /// A new key that is kept nowhere (tests).
    pub fn random() -> io::Result<Self> {
        let secret = Secret::random()?;
        let verifier = secret.verifier()?;
        Ok(Self { secret, verifier })
    }

    /// The key of the cache folder `cache`, made at the first call. Two first calls at once agree on one key.
    pub fn load_or_create(cache: &Path) -> io::Result<Self> {
        let file = cache.join("template-key");
        match Self::load(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        fs::create_dir_all(cache)?;
        let fresh = Self::random()?;
        let draft = cache.join(format!("template-key.{}", Secret::random()?.reveal()));
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        out.write_all(format!("{}\n{}\n", fresh.secret.reveal(), fresh.verifier).as_bytes())?;
        out.sync_all()?;
        // A hard link never replaces a file: whoever comes second reads the first one's key.
        let linked = fs::hard_link(&draft, &file);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Self::load(&file),
        }
    }

    fn load(file: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(file)?;
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (Some(secret), Some(verifier)) if secret.len() >= 24 && verifier.starts_with("SCRAM-SHA-256$") => {
                Ok(Self { secret: Secret::new(secret), verifier: verifier.to_owned() })
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged: remove it, and the template is made anew", file.display()),
            )),
        }
    }

    /// The verifier as an SQL literal, for the template's `CREATE ROLE`.
    pub(super) fn sql(&self) -> String {
        literal(&self.verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::random().unwrap();
        let shown = format!("{secret:?} {secret} {:?}", TemplateKey::random().unwrap());
        assert!(!shown.contains(secret.reveal()));
        assert_eq!(secret.reveal().len(), 24);
        assert!(secret.reveal().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(secret, Secret::random().unwrap());
    }

    #[test]
    fn statements_have_verifiers_only() {
        let passwords = Passwords::random().unwrap();
        let text = passwords.statements().unwrap();
        assert_eq!(text.matches("SCRAM-SHA-256$1:").count(), 4);
        for secret in [&passwords.control, &passwords.writer, &passwords.lesson, &passwords.replication] {
            assert!(!text.contains(secret.reveal()));
        }
    }

    #[test]
    fn the_key_file_is_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let first = TemplateKey::load_or_create(&cache).unwrap();
        assert!(first == TemplateKey::load_or_create(&cache).unwrap());
        let mode = fs::metadata(cache.join("template-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        fs::write(cache.join("template-key"), "nonsense").unwrap();
        assert!(TemplateKey::load_or_create(&cache).is_err());
    }
}

//! Passwords: Argon2id, on few threads, so that a storm of log-ins can't starve bookings.
//!
//! The threads are this module's own: the allocator keeps what a thread has freed, and on the
//! runtime's many blocking threads that came to hundreds of megabytes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::Context;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Semaphore, oneshot};

use super::keys;

/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;

/// Hashes computed at once. One takes tens of milliseconds of a core.
const THREADS: usize = 2;
/// Hashes computed or waited for. More are refused at once.
const ADMITTED_MAX: usize = 24;

/// Fewest characters of a password.
pub const CHARS_MIN: usize = 8;
/// Most characters of a password.
pub const CHARS_MAX: usize = 128;

/// Too many hashes are waited for already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being hashed")]
pub struct Busy;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords(Arc<Shared>);

struct Shared {
    admitted: Arc<Semaphore>,
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&Hasher) + Send>;

struct Hasher {
    argon2: Argon2<'static>,
    /// Verified when there is no such account, so that the answer takes the same time.
    decoy: String,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Prepares the hasher.
    pub fn new() -> anyhow::Result<Self> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .map_err(|error| anyhow::anyhow!("Argon2 parameters: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy =
            hash(&argon2, &STANDARD.encode(keys::random::<16>()?)).context("hashing a decoy")?;
        let hasher = Arc::new(Hasher { argon2, decoy });
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let (hasher, waiting) = (Arc::clone(&hasher), Arc::clone(&waiting));
            std::thread::Builder::new()
                .name("passwords".into())
                .spawn(move || work_off(&waiting, &hasher))
                .context("starting a thread for passwords")?;
        }
        let admitted = Arc::new(Semaphore::new(ADMITTED_MAX));
        Ok(Self(Arc::new(Shared { admitted, jobs })))
    }

    /// Hashes a password, with a random salt, in PHC form.
    pub async fn hash(&self, password: String) -> Result<String, Busy> {
        let hashed = self.on_a_thread(move |hasher| hash(&hasher.argon2, &password)).await?;
        // Hashing fails only for want of memory or randomness: busy is what the client can act on.
        hashed.ok_or(Busy)
    }

    /// Tells whether the password is the one of this hash. Without a hash it is not, after the
    /// same time.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Busy> {
        self.on_a_thread(move |hasher| {
            let is_decoy = hash.is_none();
            let hash = hash.as_deref().unwrap_or(&hasher.decoy);
            let parsed = PasswordHash::new(hash).ok();
            let matches = parsed.is_some_and(|parsed| {
                hasher.argon2.verify_password(password.as_bytes(), &parsed).is_ok()
            });
            matches && !is_decoy
        })
        .await
    }

    async fn on_a_thread<T, F>(&self, work: F) -> Result<T, Busy>
    where
        T: Send + 'static,
        F: FnOnce(&Hasher) -> T + Send + 'static,
    {
        let admitted = Arc::clone(&self.0.admitted).try_acquire_owned().map_err(|_| Busy)?;
        let (answer, answered) = oneshot::channel();
        // The permit goes along: a client that hangs up does not make room for another hash.
        let job: Job = Box::new(move |hasher| {
            let done = work(hasher);
            drop(admitted);
            // Whoever hung up needs no answer.
            let _ = answer.send(done);
        });
        self.0.jobs.send(job).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }
}

/// Does one job after another until nobody can ask any more.
fn work_off(waiting: &Mutex<mpsc::Receiver<Job>>, hasher: &Hasher) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // A job that panicked answers nobody, and the next one is done all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| job(hasher)));
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Option<String> {
    let salt = keys::random::<16>().ok()?;
    let hash: PasswordHash = argon2.hash_password_with_salt(password.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let passwords = Passwords::new().expect("a hasher");
        let hash = passwords.hash("correct horse".to_owned()).await.expect("room");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |password: &str, hash| passwords.verify(password.to_owned(), hash);
        assert_eq!(verify("correct horse", Some(hash.clone())).await, Ok(true));
        assert_eq!(verify("correct horsf", Some(hash)).await, Ok(false));
        assert_eq!(verify("correct horse", None).await, Ok(false));
        assert_eq!(verify("!", Some("!".to_owned())).await, Ok(false));
    }

    #[tokio::test]
    async fn a_storm_of_log_ins_is_refused_at_once_beyond_the_bound() {
        let passwords = Passwords::new().expect("a hasher");
        let tries = (0..ADMITTED_MAX + 3).map(|_| passwords.verify("storm".to_owned(), None));
        let answers = futures::future::join_all(tries).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Err(Busy)).count(), 3);
    }
}

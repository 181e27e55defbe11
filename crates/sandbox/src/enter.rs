//! Entering the namespaces in which an ordinary user is root, once per process.

/// Which of the two kinds of id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// User ids.
    User,
    /// Group ids.
    Group,
}

/// A run of ids inside the namespace and the ids outside that they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// What [`enter`] achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The map of user ids, as the kernel shows it.
    pub users: Vec<IdRange>,
    /// The map of group ids, as the kernel shows it.
    pub groups: Vec<IdRange>,
}

/// Why the namespaces could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// User namespaces are forbidden or used up.
    #[error("this machine does not let user `{user}` create a user namespace")]
    NoUserNamespace {
        /// Who asked.
        user: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl EnterError {
    /// The user's next step: the exact command or setting.
    pub fn help(&self) -> Option<String> {
        todo!()
    }
}

/// Moves this process into a new user and mount namespace in which it is root.
///
/// Called once, early in `main`, before any thread is started. Returns in the same process, with the
/// same process id, so signals and exit status need no forwarding.
///
/// - An ordinary user becomes 0; the ranges of `/etc/subuid` and `/etc/subgid` become 1 and up, by
///   `newuidmap` and `newgidmap`.
/// - Root gets a new user namespace too, in which every id keeps its number: a step's root is then
///   not the host's, and the private binfmt_misc works.
///
/// Mounts made later on the host stay visible; mounts made here never reach the host.
///
/// # Errors
///
/// Each says what is missing; [`EnterError::help`] says how to get it.
pub fn enter() -> Result<Entered, EnterError> {
    todo!()
}

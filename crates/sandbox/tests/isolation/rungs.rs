//! Entering the namespaces, for users who cannot, and for what those who can get.

use sandbox::{EnterError, IdKind};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("the_map_is_the_one_granted", granted),
    ("without_subordinate_ids_the_command_is_named", no_range),
    ("without_newuidmap_the_package_is_named", no_mapper),
    ("a_second_thread_is_refused", threads),
    ("mounts_made_inside_stay_inside", mounts),
];

/// Which case is for whom.
pub(crate) const USERS: [(&str, &str); 8] = [
    ("the_map_is_the_one_granted", "root"),
    ("the_map_is_the_one_granted", "rbuild-test"),
    (
        "without_subordinate_ids_the_command_is_named",
        "rbuild-test-nosub",
    ),
    ("without_newuidmap_the_package_is_named", "rbuild-test"),
    ("a_second_thread_is_refused", "root"),
    ("a_second_thread_is_refused", "rbuild-test"),
    ("mounts_made_inside_stay_inside", "root"),
    ("mounts_made_inside_stay_inside", "rbuild-test"),
];

fn granted() {
    let outside = rustix_uid();
    let process = std::process::id();
    let entered = sandbox::enter(Some(sandbox::Isolation::Full)).unwrap();
    assert_eq!(process, std::process::id());
    assert_eq!(rustix_uid(), 0);
    assert_eq!(
        (entered.users[0].inside, entered.users[0].outside),
        (0, outside)
    );
    let ids: u64 = entered
        .users
        .iter()
        .map(|range| u64::from(range.count))
        .sum();
    assert!(ids > 65_536, "{entered:?}");
    assert_eq!(entered.users.len(), entered.groups.len());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("NoNewPrivs:\t0"), "{status}");
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn no_range() {
    let error = sandbox::enter(Some(sandbox::Isolation::Full)).unwrap_err();
    let EnterError::NoRange { user, missing, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(user, "rbuild-test-nosub");
    assert_eq!(missing, &[IdKind::User, IdKind::Group]);
    let help = error.help().unwrap();
    assert!(
        help.starts_with("run: sudo usermod --add-subuids "),
        "{help}"
    );
    assert!(
        help.contains(" --add-subgids ") && help.ends_with(" rbuild-test-nosub"),
        "{help}"
    );
}

fn no_mapper() {
    if std::env::var("PATH").is_ok_and(|path| path != "/nowhere") {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--case", "without_newuidmap_the_package_is_named"])
            .env("PATH", "/nowhere")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let error = sandbox::enter(Some(sandbox::Isolation::Full)).unwrap_err();
    assert!(matches!(error, EnterError::NoMapper { .. }), "{error:?}");
    assert!(error.help().unwrap().contains("apt-get install uidmap"));
}

fn threads() {
    let (hold, release) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || release.recv());
    let error = sandbox::enter(Some(sandbox::Isolation::Full)).unwrap_err();
    assert!(matches!(error, EnterError::Threads), "{error:?}");
    drop(hold);
    assert!(thread.join().unwrap().is_err());
    sandbox::enter(Some(sandbox::Isolation::Full)).unwrap();
}

fn mounts() {
    let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    sandbox::enter(Some(sandbox::Isolation::Full)).unwrap();
    assert_ne!(outside, std::fs::read_link("/proc/self/ns/mnt").unwrap());
    let shared = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!shared.contains(" shared:"), "{shared}");
}

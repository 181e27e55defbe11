//! Any text is a reference, a digest, a platform or a media type, or refused; what is shown of it reads
//! as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Digest, MediaType, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let shown = reference.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&reference), "{shown}");
        let familiar = reference.familiar();
        assert_eq!(familiar.parse().as_ref(), Ok(&reference), "{familiar}");
        // Both become parts of a request's path.
        for part in [reference.repository(), reference.tag().unwrap_or("latest")] {
            assert!(!part.is_empty());
            assert!(part.split('/').all(|name| !["", ".", ".."].contains(&name)), "{part}");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            assert!(part.chars().all(is_plain), "{part}");
        }
        assert!(!reference.registry().contains(['/', '@', '?', '#', ' ']));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let shown = platform.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&platform), "{shown}");
        assert!(platform.candidates().iter().all(|candidate| candidate.satisfies(&platform)));
    }
    let Ok(media_type) = text.parse::<MediaType>();
    assert_eq!(media_type.to_string(), text);
});

//! COPY and ADD.

use crate::ast::{Add, Copy, CopyFlags, CopySource, Word};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::heredoc;
use crate::instructions::Keyword;
use crate::node::Node;
use crate::parse::error;
use crate::parse::flags::Flags;

pub(super) fn copy(node: &Node) -> Result<Copy, DockerfileError> {
    let words = words(node, "COPY")?;
    let flags = Flags::read(node, Keyword::Copy.spec())?;
    let from = flags.value("from");
    if let Some(from) = from.as_ref().filter(|from| from.text.contains('$')) {
        return Err(flags.error(from, DockerfileErrorKind::VariableInFrom));
    }
    let (sources, destination) = sources(node, words, "COPY")?;
    let parents = flags.is_set("parents");
    Ok(Copy {
        from,
        flags: shared(&flags),
        parents,
        sources,
        destination,
    })
}

pub(super) fn add(node: &Node) -> Result<Add, DockerfileError> {
    let words = words(node, "ADD")?;
    let flags = Flags::read(node, Keyword::Add.spec())?;
    let (sources, destination) = sources(node, words, "ADD")?;
    Ok(Add {
        flags: shared(&flags),
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.value("checksum"),
        unpack: flags.bool("unpack"),
        sources,
        destination,
    })
}

fn shared(flags: &Flags<'_>) -> CopyFlags {
    CopyFlags {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.is_set("link"),
        exclude: flags.list("exclude").cloned().collect(),
    }
}

/// The words of the instruction; the last one is the destination.
fn words<'n>(node: &'n Node, instruction: &'static str) -> Result<&'n [Word], DockerfileError> {
    let words = node.arguments.words();
    if words.len() < 2 {
        let kind = DockerfileErrorKind::NoDestination { instruction };
        return Err(error(node, node.span, kind));
    }
    Ok(words)
}

fn sources(
    node: &Node,
    words: &[Word],
    instruction: &'static str,
) -> Result<(Vec<CopySource>, Word), DockerfileError> {
    let is_json = node.arguments.json().is_some();
    let opening = |word: &Word| {
        if is_json {
            return Ok(None);
        }
        heredoc::opening(word.clone())
            .map_err(|cause| error(node, word.span, DockerfileErrorKind::HeredocWord(cause)))
    };
    let Some((destination, words)) = words.split_last() else {
        return Err(error(
            node,
            node.span,
            DockerfileErrorKind::NoDestination { instruction },
        ));
    };
    if opening(destination)?.is_some() {
        let kind = DockerfileErrorKind::HeredocDestination { instruction };
        return Err(error(node, destination.span, kind));
    }
    let mut sources = Vec::with_capacity(words.len());
    let mut heredocs = node.heredocs.iter().peekable();
    for word in words {
        // Words are cut here at every blank, but where heredocs are recognised as a shell does.
        // What is a heredoc to one but not to the other is a path.
        let is_opening = opening(word)?.is_some();
        while heredocs
            .next_if(|heredoc| heredoc.word.span.start < word.span.start)
            .is_some()
        {}
        let heredoc = heredocs.next_if(|heredoc| is_opening && heredoc.word.span == word.span);
        sources.push(match heredoc {
            Some(heredoc) => CopySource::Heredoc(heredoc.clone()),
            None => CopySource::Path(word.clone()),
        });
    }
    Ok((sources, destination.clone()))
}

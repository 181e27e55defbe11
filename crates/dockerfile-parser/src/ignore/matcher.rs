//! One ignore pattern against one path, both complete.
//!
//! Most patterns differ from most paths in their first or last literal characters, so these are
//! compared first. What is left is matched by following all possibilities at once, one character
//! of the path after the other: no pattern makes that slow.

use crate::glob::{self, PatternError, Token};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    /// The bytes every match starts with.
    head: Vec<u8>,
    /// The bytes every match ends with.
    tail: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// What a component is matched with.
    Token(Token),
    /// `**` before something: any number of folders, none included.
    Folders,
    /// `**` at the end: anything.
    Rest,
}

impl Part {
    fn literal(&self) -> Option<char> {
        match self {
            Self::Token(Token::Char(c)) => Some(*c),
            Self::Token(Token::Run | Token::One | Token::Class { .. })
            | Self::Folders
            | Self::Rest => None,
        }
    }
}

impl Matcher {
    pub(super) fn new(pattern: &str) -> Result<Self, PatternError> {
        let parts = parts(&glob::tokens(pattern)?);
        let mut buffer = [0; 4];
        let mut head = Vec::new();
        for c in parts.iter().map_while(Part::literal) {
            head.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
        let literal_end = parts.iter().rev().map_while(Part::literal).count();
        let mut tail = Vec::new();
        for c in parts[parts.len() - literal_end..]
            .iter()
            .filter_map(Part::literal)
        {
            tail.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
        Ok(Self { head, tail, parts })
    }

    pub(super) fn is_match(&self, path: &[u8]) -> bool {
        path.starts_with(&self.head) && path.ends_with(&self.tail) && self.follow(path)
    }

    fn follow(&self, path: &[u8]) -> bool {
        let mut places = Places::new(self.parts.len());
        let mut next = Places::new(self.parts.len());
        places.enter(0, &self.parts);
        let mut rest = path;
        while let Some((c, length)) = glob::first_char(rest) {
            next.clear();
            for &place in &places.active {
                let at = place.part();
                match self.parts.get(at) {
                    Some(Part::Token(Token::Run)) if c != '/' => next.enter(at, &self.parts),
                    Some(Part::Token(Token::Run)) | None => {}
                    Some(Part::Token(token)) => {
                        if token.takes(rest).is_some() {
                            next.enter(at + 1, &self.parts);
                        }
                    }
                    Some(Part::Rest) => next.enter(at, &self.parts),
                    Some(Part::Folders) if c == '/' => next.enter(at, &self.parts),
                    Some(Part::Folders) => drop(next.add(Place::within_folder(at))),
                }
            }
            if next.active.is_empty() {
                return false;
            }
            std::mem::swap(&mut places, &mut next);
            rest = &rest[length..];
        }
        places
            .active
            .iter()
            .any(|place| *place == Place::before(self.parts.len()))
    }
}

/// Joins `**` and the `/` behind it into the parts they are.
fn parts(tokens: &[Token]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if *token != Token::Run || tokens.get(at) != Some(&Token::Run) {
            parts.push(Part::Token(token.clone()));
            continue;
        }
        at += 1;
        let has_slash = tokens.get(at) == Some(&Token::Char('/'));
        at += usize::from(has_slash);
        let rest = &tokens[at..];
        let is_plain = rest.iter().all(|token| matches!(token, Token::Char(_)));
        parts.push(match (parts.is_empty(), rest.is_empty()) {
            (_, true) => Part::Rest,
            // The reference takes `**x` for any path that ends in `x`.
            (true, false) if is_plain && !has_slash => Part::Rest,
            (true | false, false) => Part::Folders,
        });
    }
    parts
}

/// A place in the pattern: before a part, or within the folders that a [`Part::Folders`] takes.
#[derive(Clone, Copy, PartialEq)]
struct Place(usize);

impl Place {
    fn before(part: usize) -> Self {
        Self(part * 2)
    }

    fn within_folder(part: usize) -> Self {
        Self(part * 2 + 1)
    }

    fn part(self) -> usize {
        self.0 / 2
    }
}

/// The places a match can be at.
struct Places {
    active: Vec<Place>,
    is_active: Vec<bool>,
}

impl Places {
    fn new(parts: usize) -> Self {
        Self {
            active: Vec::new(),
            is_active: vec![false; parts * 2 + 2],
        }
    }

    fn clear(&mut self) {
        for place in self.active.drain(..) {
            self.is_active[place.0] = false;
        }
    }

    fn add(&mut self, place: Place) -> bool {
        let is_new = !std::mem::replace(&mut self.is_active[place.0], true);
        if is_new {
            self.active.push(place);
        }
        is_new
    }

    /// Adds the place before `part`, and those that are reached from it without a character.
    fn enter(&mut self, mut part: usize, parts: &[Part]) {
        while self.add(Place::before(part)) {
            match parts.get(part) {
                Some(Part::Token(Token::Run) | Part::Folders | Part::Rest) => part += 1,
                Some(Part::Token(Token::One | Token::Char(_) | Token::Class { .. })) | None => {
                    return;
                }
            }
        }
    }
}

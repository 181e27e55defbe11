//! Instructions that change the config, and WORKDIR (`dockerfile.md` §10, §11).

use dockerfile::ast::{Arg, Command, Healthcheck, Pair, Pairs, Word};
use dockerfile::lint::expose_word;
use oci::config::Empty;

use super::instruction::{Site, StageLowering};
use crate::error::{LowerError, LowerErrorKind, NoUsers};
use crate::history;
use crate::lint;
use crate::op::{MakeDirectoryOp, Op};
use crate::path;
use crate::port;
use crate::signal;
use crate::vertex::HistoryLine;

impl StageLowering<'_, '_> {
    /// ARG. Defaults see what the same instruction declared before them.
    pub(super) fn arg(&mut self, site: &Site<'_>, arg: &Arg) -> Result<(), LowerError> {
        let target = self.target;
        let mut text = "ARG".to_owned();
        for declaration in &arg.declarations {
            let name = &declaration.name.text;
            let value = match (target.build.args.get(name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(site, default)?),
                (None, None) => target.globals.get(name).map(str::to_owned),
            };
            self.state.scope.declare_arg(name, value.as_deref());
            text.extend([" ", name]);
            if let Some(value) = value {
                text.extend(["=", &value]);
            }
        }
        self.note(history::without_layer(text));
        Ok(())
    }

    pub(super) fn env(&mut self, site: &Site<'_>, pairs: &Pairs) -> Result<(), LowerError> {
        let pairs = self.pairs(site, &pairs.pairs)?;
        for (name, value) in &pairs {
            self.state.set_env(name, value);
        }
        self.note(history::pairs("ENV", &pairs));
        Ok(())
    }

    pub(super) fn label(&mut self, site: &Site<'_>, pairs: &Pairs) -> Result<(), LowerError> {
        let pairs = self.pairs(site, &pairs.pairs)?;
        self.note(history::pairs("LABEL", &pairs));
        self.state.config.config.labels.extend(pairs);
        Ok(())
    }

    fn pairs(
        &mut self,
        site: &Site<'_>,
        pairs: &[Pair],
    ) -> Result<Vec<(String, String)>, LowerError> {
        pairs
            .iter()
            .map(|pair| {
                Ok((
                    self.expand(site, &pair.key)?,
                    self.expand(site, &pair.value)?,
                ))
            })
            .collect()
    }

    pub(super) fn workdir(&mut self, site: &Site<'_>, word: &Word) -> Result<(), LowerError> {
        let written = self.expand(site, word)?;
        if !self.state.has_workdir && !written.starts_with('/') {
            self.warn(site, lint::relative_workdir(&written, site.whole()));
        }
        self.state.has_workdir = true;
        let path = path::join(self.state.cwd(), &written);
        let config = &mut self.state.config.config;
        config.working_dir.clone_from(&path);
        let text = format!("WORKDIR {path}");
        if path == "/" {
            self.note(history::without_layer(text));
            return Ok(());
        }
        let user = config.user.clone();
        if self.state.root.is_none()
            && let Some(name) = first_name(&user)
        {
            let name = name.to_owned();
            let cause = NoUsers::EmptyStage;
            return Err(site.error(word.span, LowerErrorKind::UserName { name, cause }));
        }
        let root = self.state.root;
        let op = Op::MakeDirectory(MakeDirectoryOp { root, path, user });
        self.step(site, op, &[], "");
        self.note(history::with_layer(text));
        Ok(())
    }

    pub(super) fn user(&mut self, site: &Site<'_>, word: &Word) -> Result<(), LowerError> {
        let user = self.expand(site, word)?;
        self.note(history::without_layer(format!("USER {user}")));
        self.state.config.config.user = user;
        Ok(())
    }

    pub(super) fn cmd(&mut self, site: &Site<'_>, command: &Command) {
        let argv = self.command(site, "CMD", command);
        self.note(history::command("CMD", &argv));
        self.has_own_cmd = true;
        let config = &mut self.state.config.config;
        config.cmd = argv;
        config.args_escaped = true;
    }

    /// ENTRYPOINT. A CMD of the base was meant for the base's entrypoint.
    pub(super) fn entrypoint(&mut self, site: &Site<'_>, command: &Command) {
        let argv = self.command(site, "ENTRYPOINT", command);
        self.note(history::command("ENTRYPOINT", &argv));
        let config = &mut self.state.config.config;
        config.entrypoint = argv;
        if !self.has_own_cmd {
            config.cmd.clear();
        }
    }

    fn command(&mut self, site: &Site<'_>, instruction: &str, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => texts(words),
            Command::Shell(line) => {
                if self.state.config.config.shell.is_empty() {
                    self.warn(site, lint::json_arguments(instruction, site.whole()));
                }
                self.in_shell(line.text.clone())
            }
        }
    }

    /// Returns the command line that has the stage's shell run `script`.
    pub(super) fn in_shell(&self, script: String) -> Vec<String> {
        let shell = &self.state.config.config.shell;
        let mut argv = match (shell.is_empty(), self.state.config.os.as_str()) {
            (false, _) => shell.clone(),
            (true, "windows") => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
            (true, _) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        };
        argv.push(script);
        argv
    }

    pub(super) fn shell(&mut self, words: &[Word]) {
        let shell = texts(words);
        self.note(history::list("SHELL", &shell));
        self.state.config.config.shell = shell;
    }

    /// EXPOSE. Words are sorted as written, before they are expanded.
    pub(super) fn expose(&mut self, site: &Site<'_>, words: &[Word]) -> Result<(), LowerError> {
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ports = Vec::new();
        for word in words {
            let expanded =
                self.expand_with(site, word.span, |expander| expander.words(&word.text))?;
            for expanded in expanded {
                for warning in expose_word(&expanded, site.whole()) {
                    self.warn(site, warning);
                }
                let found = port::exposed(&expanded);
                ports.extend(found.map_err(|error| site.error(word.span, error))?);
            }
        }
        self.note(history::list("EXPOSE", &ports));
        let exposed = ports.into_iter().map(|port| (port, Empty {}));
        self.state.config.config.exposed_ports.extend(exposed);
        Ok(())
    }

    pub(super) fn volume(&mut self, site: &Site<'_>, words: &[Word]) -> Result<(), LowerError> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(site, word)?;
            if path.is_empty() {
                return Err(site.error(word.span, LowerErrorKind::EmptyVolume));
            }
            paths.push(path);
        }
        self.note(history::list("VOLUME", &paths));
        let volumes = paths.into_iter().map(|path| (path, Empty {}));
        self.state.config.config.volumes.extend(volumes);
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, site: &Site<'_>, word: &Word) -> Result<(), LowerError> {
        let signal = self.expand(site, word)?;
        if !signal::is_signal(&signal) {
            return Err(site.error(word.span, LowerErrorKind::Signal { signal }));
        }
        self.note(history::without_layer(format!("STOPSIGNAL {signal}")));
        self.state.config.config.stop_signal = signal;
        Ok(())
    }

    pub(super) fn healthcheck(&mut self, check: &Healthcheck) {
        let check = match check {
            Healthcheck::None => oci::config::Healthcheck {
                test: vec!["NONE".to_owned()],
                ..oci::config::Healthcheck::default()
            },
            Healthcheck::Cmd { flags, command } => {
                let mut test = Vec::new();
                match command {
                    Command::Exec(words) => {
                        test.push("CMD".to_owned());
                        test.extend(texts(words));
                    }
                    Command::Shell(line) => {
                        test.extend(["CMD-SHELL".to_owned(), line.text.clone()]);
                    }
                }
                oci::config::Healthcheck {
                    test,
                    interval: flags.interval_ns,
                    timeout: flags.timeout_ns,
                    start_period: flags.start_period_ns,
                    start_interval: flags.start_interval_ns,
                    retries: i64::from(flags.retries),
                }
            }
        };
        self.note(history::healthcheck(&check));
        self.state.config.config.healthcheck = Some(check);
    }

    pub(super) fn maintainer(&mut self, word: &Word) {
        let author = word.text.clone();
        self.note(history::without_layer(format!("MAINTAINER {author}")));
        self.state.config.author = Some(author);
    }

    pub(super) fn note(&mut self, line: HistoryLine) {
        self.state.history.push(line);
    }
}

/// Returns the first part of `user[:group]` that is a name to be looked up: `root` and numbers are
/// not.
pub(super) fn first_name(user: &str) -> Option<&str> {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    user.splitn(2, ':')
        .find(|part| !is_number(part) && *part != "root")
}

pub(super) fn texts(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}

//! The options of a mount while they are read, one after another.

use crate::lint::suggestion;
use crate::mount::{
    Access, BindMount, CacheMount, MOUNT_KEYS, Mount, MountError, MountField, MountType, Owner,
    SecretMount, Sharing, SshMount, TmpfsMount,
};

/// What has been read so far. Keys that mean nothing to the type are kept and left out at the end,
/// as far as the reference does so.
#[derive(Default)]
pub(super) struct Options {
    mount_type: MountType,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    env: Option<String>,
    access: Option<Access>,
    sharing: Option<Sharing>,
    size_bytes: Option<u64>,
    required: bool,
    owner: Owner,
}

impl Options {
    /// Takes one field; `value` is its expanded value.
    pub(super) fn set(
        &mut self,
        field: &MountField,
        value: Option<String>,
    ) -> Result<(), MountError> {
        let key = field.key.as_str();
        let Some(value) = value else {
            return self.set_bare(field);
        };
        match key {
            "type" => self.mount_type = mount_type(value)?,
            "from" => self.from = non_empty(value),
            "source" | "src" => self.source = non_empty(value),
            "target" | "dst" | "destination" => self.target = non_empty(value),
            "readonly" | "ro" => self.access = Some(access(boolean(key, value)?)),
            "readwrite" | "rw" => self.access = Some(access(!boolean(key, value)?)),
            "required" => {
                self.check_type(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = boolean(key, value)?;
            }
            "size" => {
                self.check_type(key, &[MountType::Tmpfs])?;
                let size = size_bytes(&value);
                self.size_bytes = Some(size.ok_or_else(|| invalid(key, value))?);
            }
            "id" => self.id = non_empty(value),
            "env" => self.env = non_empty(value),
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.owner.mode = Some(number(key, value, 8)?),
            "uid" => self.owner.uid = Some(number(key, value, 10)?),
            "gid" => self.owner.gid = Some(number(key, value, 10)?),
            _ => return Err(unknown(field)),
        }
        Ok(())
    }

    /// Refuses keys that no mount has.
    pub(super) fn check_key(field: &MountField) -> Result<(), MountError> {
        if field.value.is_none() || MOUNT_KEYS.contains(&field.key.as_str()) {
            return Ok(());
        }
        Err(unknown(field))
    }

    /// Takes a field without `=`.
    fn set_bare(&mut self, field: &MountField) -> Result<(), MountError> {
        match field.key.as_str() {
            "readonly" | "ro" => self.access = Some(Access::ReadOnly),
            "readwrite" | "rw" => self.access = Some(Access::ReadWrite),
            key @ "required" => {
                self.check_type(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(MountError::NoValue {
                    field: field.text.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_type(&self, key: &str, allowed: &[MountType]) -> Result<(), MountError> {
        if allowed.contains(&self.mount_type) {
            return Ok(());
        }
        Err(MountError::KeyForType {
            key: key.to_owned(),
            mount_type: self.mount_type,
        })
    }

    /// The mount that the options describe.
    pub(super) fn mount(self) -> Result<Mount, MountError> {
        self.check()?;
        let Self {
            target,
            source,
            from,
            id,
            env,
            sharing,
            size_bytes,
            required,
            owner,
            ..
        } = self;
        let or_read_write = self.access.unwrap_or(Access::ReadWrite);
        Ok(match self.mount_type {
            MountType::Bind => {
                let access = self.access.unwrap_or(Access::ReadOnly);
                Mount::Bind(BindMount {
                    target,
                    source,
                    from,
                    access,
                })
            }
            MountType::Cache => Mount::Cache(CacheMount {
                target,
                id,
                source,
                from,
                access: or_read_write,
                sharing: sharing.unwrap_or(Sharing::Shared),
                owner,
            }),
            MountType::Tmpfs => Mount::Tmpfs(TmpfsMount {
                target,
                size_bytes,
                access: or_read_write,
            }),
            MountType::Secret => {
                let base = target.as_deref().map(last_component);
                let Some(id) = source.or(id).or(base) else {
                    return Err(MountError::SecretName);
                };
                Mount::Secret(SecretMount {
                    id,
                    target,
                    env,
                    required,
                    owner,
                })
            }
            MountType::Ssh => Mount::Ssh(SshMount {
                id,
                target,
                required,
                owner,
            }),
        })
    }

    fn check(&self) -> Result<(), MountError> {
        let mount_type = self.mount_type;
        if let MountType::Bind | MountType::Tmpfs = mount_type {
            let Owner { uid, gid, mode } = self.owner;
            let given = [("mode", mode), ("uid", uid), ("gid", gid)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(MountError::Owner { key, mount_type });
            }
        }
        if mount_type == MountType::Secret {
            if self.from.is_some() {
                return Err(MountError::SecretFrom);
            }
            if self.sharing.is_some() {
                return Err(MountError::SecretSharing);
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(MountError::SecretNames);
            }
        }
        if self.sharing.is_some() && mount_type != MountType::Cache {
            return Err(MountError::SharingFor { mount_type });
        }
        Ok(())
    }
}

fn unknown(field: &MountField) -> MountError {
    MountError::Key {
        key: field.key.clone(),
        field: field.text.clone(),
        nearest: suggestion(&field.key, MOUNT_KEYS.iter().copied()),
    }
}

fn non_empty(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn access(read_only: bool) -> Access {
    if read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    }
}

fn mount_type(value: String) -> Result<MountType, MountError> {
    let lower = value.to_lowercase();
    MountType::ALL
        .into_iter()
        .find(|known| known.name() == lower)
        .ok_or_else(|| {
            let nearest = suggestion(&value, MountType::ALL.map(MountType::name));
            MountError::Type { value, nearest }
        })
}

fn sharing(value: String) -> Result<Sharing, MountError> {
    let lower = value.to_lowercase();
    Sharing::ALL
        .into_iter()
        .find(|known| known.name() == lower)
        .ok_or_else(|| {
            let nearest = suggestion(&value, Sharing::ALL.map(Sharing::name));
            MountError::Sharing { value, nearest }
        })
}

fn invalid(key: &str, value: String) -> MountError {
    MountError::Value {
        key: key.to_owned(),
        value,
    }
}

fn boolean(key: &str, value: String) -> Result<bool, MountError> {
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(key, value)),
    }
}

fn number(key: &str, value: String, radix: u32) -> Result<u32, MountError> {
    // The standard library takes a sign, the reference does not.
    let parsed = u32::from_str_radix(&value, radix)
        .ok()
        .filter(|_| !value.starts_with('+'));
    parsed.ok_or_else(|| MountError::Number {
        key: key.to_owned(),
        value,
    })
}

/// Reads a size in bytes, with a binary unit or without one: `64m`, `1.5 GiB`, `1024`.
///
/// `None` is a text that is none, or a size of 2^63 bytes and more.
pub fn size_bytes(text: &str) -> Option<u64> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = digits.parse::<f64>().ok()? * 1024_f64.powi(exponent);
    // The range was checked, and a fraction of a byte is dropped as the reference drops it.
    (size < 2_f64.powi(63)).then_some(size as u64)
}

/// The last component of a path.
fn last_component(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::size_bytes;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size_bytes("64m"), Some(64 << 20));
        assert_eq!(size_bytes("1.5 GiB"), Some(3 << 29));
        assert_eq!(size_bytes("10"), Some(10));
        assert_eq!(size_bytes("1kb"), Some(1024));
        for bad in ["", "m", "-1", "1x", "1..2", ".5", "99999999p"] {
            assert_eq!(size_bytes(bad), None, "{bad}");
        }
    }
}

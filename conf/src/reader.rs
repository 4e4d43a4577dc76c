//! Turns merged values into typed ones, collecting what is wrong instead of stopping at it.

use crate::error::{Fault, Mistake};
use crate::layers::{DEFAULT, FLAG, Values};
use crate::option;
use crate::units;
use config::{Value, ValueKind};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What values mean, by key: equal where two texts say the same.
pub(crate) type Meanings = BTreeMap<String, String>;

/// Reads values by key. A value that is refused leaves a mistake, and its default is used so that
/// the remaining options can still be judged.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    values: &'a Values,
    defaults: &'a Values,
    pub mistakes: Vec<Mistake>,
    pub meanings: Meanings,
}

impl<'a> Reader<'a> {
    pub fn new(values: &'a Values, defaults: &'a Values, mistakes: Vec<Mistake>) -> Self {
        Reader {
            values,
            defaults,
            mistakes,
            meanings: Meanings::new(),
        }
    }

    /// Whether an operator set the option, to whatever value.
    pub fn is_set(&self, key: &str) -> bool {
        self.value(key).origin() != Some(DEFAULT)
    }

    /// Whether a flag gives the option, and nothing as its value.
    pub fn is_emptied_by_flag(&self, key: &str) -> bool {
        let value = self.value(key);
        let is_flag = value
            .origin()
            .is_some_and(|origin| origin.starts_with(FLAG));
        is_flag && shown(value).trim().is_empty()
    }

    /// Whether the option's value was already refused.
    pub fn is_refused(&self, key: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.option == key)
    }

    /// Refuses an option's value.
    pub fn refuse(&mut self, key: &str, fault: Fault) {
        let value = self.value(key);
        let mistake = Mistake {
            option: key.to_owned(),
            flag: option::by_key(key)
                .map(|option| option.flag.to_owned())
                .unwrap_or_default(),
            value: shown(value),
            origin: value.origin().unwrap_or_default().to_owned(),
            problem: fault.problem,
            remedy: fault.remedy,
        };
        self.mistakes.push(mistake);
    }

    pub fn read<T: Debug>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, Fault>) -> T {
        match parse(self.value(key)) {
            Ok(value) => {
                self.mean(key, &value);
                value
            }
            Err(fault) => {
                self.refuse(key, fault);
                let default = self
                    .defaults
                    .get(key)
                    .expect("default.toml names every option");
                parse(default).expect("default.toml holds values that its reader accepts")
            }
        }
    }

    /// Says what an option means, where that takes more than its own value.
    pub fn mean(&mut self, key: &str, meaning: impl Debug) {
        self.meanings.insert(key.to_owned(), format!("{meaning:?}"));
    }

    pub fn text(&mut self, key: &str) -> String {
        self.read(key, text)
    }

    /// A path, which is `unset` where none is given.
    pub fn path(&mut self, key: &str, unset: PathBuf) -> PathBuf {
        self.path_if_set(key).unwrap_or_else(|| {
            self.mean(key, Some(plain(&unset)));
            unset
        })
    }

    /// A path that need not be given.
    pub fn path_if_set(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key);
        let path = (!text.is_empty()).then(|| PathBuf::from(text));
        self.mean(key, path.as_deref().map(plain));
        path
    }

    pub fn bool(&mut self, key: &str) -> bool {
        self.read(key, |value| match &value.kind {
            ValueKind::Boolean(value) => Ok(*value),
            _ => match text(value)?.as_str() {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
                _ => Err(Fault::new(
                    "is neither true nor false",
                    "write true or false",
                )),
            },
        })
    }

    /// A count within bounds, both included.
    pub fn count(&mut self, key: &str, least: u64, most: u64) -> u64 {
        self.read(key, |value| {
            within(units::count(&text(value)?)?, least, most)
        })
    }

    /// As `count`, for what is counted in memory.
    pub fn size(&mut self, key: &str, least: u64, most: u64) -> usize {
        usize::try_from(self.count(key, least, most)).unwrap_or(usize::MAX)
    }

    /// A size in bytes within bounds, both included.
    pub fn bytes(&mut self, key: &str, least: u64, most: u64) -> u64 {
        self.read(key, |value| {
            within(units::bytes(&text(value)?)?, least, most)
        })
    }

    /// A duration; a plain number counts `bare` units of a nanosecond.
    pub fn duration(&mut self, key: &str, bare: Option<u64>) -> Duration {
        self.read(key, |value| units::duration(&text(value)?, bare))
    }

    /// A list: a TOML array of strings, or one string with commas.
    pub fn list<T: Debug>(
        &mut self,
        key: &str,
        parse: impl Fn(&[String]) -> Result<T, Fault>,
    ) -> T {
        self.read(key, |value| parse(&items(value)?))
    }

    /// One of a few words, compared without case.
    pub fn choice<T: Copy + Debug>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        self.read(key, |value| {
            let word = text(value)?;
            let found = choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(word.trim()));
            found.map(|(_, choice)| *choice).ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                Fault::new(
                    "is not one of the choices",
                    format!("write {}", names.join(" or ")),
                )
            })
        })
    }

    fn value(&self, key: &str) -> &'a Value {
        self.values
            .get(key)
            .expect("default.toml names every option")
    }
}

/// A value as the operator wrote it, near enough.
pub(crate) fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        ValueKind::Table(_) => "a section".to_owned(),
        _ => value.to_string(),
    }
}

/// Where a path leads, without what changes nothing about that, such as a slash at its end.
fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.components().collect()
}

fn text(value: &Value) -> Result<String, Fault> {
    match &value.kind {
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => Err(Fault::new(
            "is not a single value",
            "write one string or number",
        )),
        _ => Ok(value.to_string()),
    }
}

fn items(value: &Value) -> Result<Vec<String>, Fault> {
    if let ValueKind::Array(items) = &value.kind {
        return items
            .iter()
            .map(|item| text(item).map(|item| item.trim().to_owned()))
            .collect();
    }
    let text = text(value)?;
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    Ok(parts.map(str::to_owned).collect())
}

fn within(value: u64, least: u64, most: u64) -> Result<u64, Fault> {
    if value < least {
        Err(Fault::new("is too small", format!("the least is {least}")))
    } else if value > most {
        Err(Fault::new("is too large", format!("the most is {most}")))
    } else {
        Ok(value)
    }
}

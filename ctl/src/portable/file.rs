//! The lines of an export: written as they come, read with the position of any mistake.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, INVALID_INPUT};

/// The layout of the lines.
const FORMAT: u32 = 1;
/// A line holds the largest value in base64 and more; a longer one is not an export's.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// The name that stands for standard input.
const STDIN: &str = "-";

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The revision at which the keys were read.
    pub revision: i64,
    /// The first key of the range.
    pub key: Bytes,
    /// The end of the range; empty for one key.
    pub range_end: Bytes,
    /// How many keys follow.
    pub count: u64,
}

/// One key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// When it was created.
    pub create_revision: i64,
    /// When it was changed last.
    pub mod_revision: i64,
    /// How often it was changed.
    pub version: i64,
    /// Its lease; 0 for none.
    pub lease: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    althing_export: u32,
    revision: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_end: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_end_base64: Option<String>,
    count: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RecordLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(default)]
    create_revision: i64,
    #[serde(default)]
    mod_revision: i64,
    #[serde(default)]
    version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
}

/// Text or base64: exactly one of the two is set.
fn split(bytes: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn join(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64);
            let bytes = bytes.map_err(|error| format!("{name}_base64: {error}"))?;
            Ok(bytes.into())
        }
        (Some(_), Some(_)) => Err(format!("has both {name} and {name}_base64")),
        (None, None) => Err(format!("has neither {name} nor {name}_base64")),
    }
}

impl Head {
    /// Writes the first line.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (key, key_base64) = split(&self.key);
        let (range_end, range_end_base64) = split(&self.range_end);
        let line = HeadLine {
            althing_export: FORMAT,
            revision: self.revision,
            key,
            key_base64,
            range_end,
            range_end_base64,
            count: self.count,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)
    }

    fn read(line: &str) -> Result<Head, String> {
        let line: HeadLine = serde_json::from_str(line)
            .map_err(|error| format!("not the head of an export: {error}"))?;
        if line.althing_export != FORMAT {
            let found = line.althing_export;
            return Err(format!(
                "export format {found} is not known here; {FORMAT} is"
            ));
        }
        Ok(Head {
            revision: line.revision,
            key: join("key", line.key, line.key_base64)?,
            range_end: join("range_end", line.range_end, line.range_end_base64)?,
            count: line.count,
        })
    }
}

impl Record {
    /// Writes its line.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (key, key_base64) = split(&self.key);
        let (value, value_base64) = split(&self.value);
        let line = RecordLine {
            key,
            key_base64,
            value,
            value_base64,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: (self.lease != 0).then(|| format!("{:x}", self.lease)),
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)
    }

    fn read(line: &str) -> Result<Record, String> {
        let line: RecordLine =
            serde_json::from_str(line).map_err(|error| format!("not a key: {error}"))?;
        let lease = match &line.lease {
            None => 0,
            Some(text) => u64::from_str_radix(text, 16)
                .map_err(|_| format!("lease {text:?} is not hexadecimal"))?
                .cast_signed(),
        };
        let record = Record {
            key: join("key", line.key, line.key_base64)?,
            value: join("value", line.value, line.value_base64)?,
            create_revision: line.create_revision,
            mod_revision: line.mod_revision,
            version: line.version,
            lease,
        };
        if record.key.is_empty() {
            Err("the key is empty".to_owned())
        } else {
            Ok(record)
        }
    }
}

/// An export that is read line by line.
pub struct ExportFile {
    name: String,
    lines: Box<dyn BufRead>,
    line: u64,
    /// The first line.
    pub head: Head,
    read: u64,
    last: Option<Bytes>,
}

impl ExportFile {
    /// Opens the export `path`; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be read, or is not an export.
    pub fn open(path: &str) -> Result<ExportFile, Failure> {
        let lines: Box<dyn BufRead> = match path {
            STDIN => Box::new(BufReader::new(io::stdin())),
            path => {
                let file = File::open(Path::new(path));
                let refuse =
                    |error| Failure::new(INVALID_INPUT, format!("cannot open {path}: {error}"));
                Box::new(BufReader::new(file.map_err(refuse)?))
            }
        };
        ExportFile::on(path, lines)
    }

    fn on(name: &str, lines: Box<dyn BufRead>) -> Result<ExportFile, Failure> {
        let mut file = ExportFile {
            name: name.to_owned(),
            lines,
            line: 0,
            head: Head::default(),
            read: 0,
            last: None,
        };
        let first = file.next_line()?;
        let first = first.ok_or_else(|| file.refusal("it is empty"))?;
        file.head = Head::read(&first).map_err(|why| file.refusal(&why))?;
        Ok(file)
    }

    /// The next key; `None` at the end.
    ///
    /// # Errors
    /// It cannot be read, a line is wrong, keys are out of order, or some are missing.
    pub fn read_record(&mut self) -> Result<Option<Record>, Failure> {
        let Some(line) = self.next_line()? else {
            if self.read != self.head.count {
                let (read, count) = (self.read, self.head.count);
                return Err(self.refusal(&format!("it has {read} keys of {count}: it was cut")));
            }
            return Ok(None);
        };
        let record = Record::read(&line).map_err(|why| self.refusal(&why))?;
        if self.last.as_ref().is_some_and(|last| *last >= record.key) {
            return Err(self.refusal("keys are out of order"));
        }
        self.last = Some(record.key.clone());
        self.read += 1;
        Ok(Some(record))
    }

    /// All keys.
    ///
    /// # Errors
    /// As [`ExportFile::read_record`].
    pub fn records(mut self) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        while let Some(record) = self.read_record()? {
            records.push(record);
        }
        Ok(records)
    }

    fn next_line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        self.line += 1;
        let mut limited = (&mut self.lines).take(LINE_BYTES_MAX);
        let read = limited.read_line(&mut line);
        let read = read.map_err(|error| self.refusal(&error.to_string()))?;
        if read as u64 == LINE_BYTES_MAX {
            return Err(self.refusal("the line is too long"));
        }
        Ok((read > 0).then_some(line))
    }

    fn refusal(&self, why: &str) -> Failure {
        let (name, line) = (&self.name, self.line);
        Failure::new(INVALID_INPUT, format!("{name}:{line}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn file(text: Vec<u8>) -> Result<ExportFile, Failure> {
        ExportFile::on("x.json", Box::new(io::Cursor::new(text)))
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let head = Head {
            revision: 9,
            key: Bytes::from_static(b"\xff"),
            range_end: Bytes::from_static(b"\0"),
            count: records.len() as u64,
        };
        let mut text = Vec::new();
        head.write(&mut text).unwrap();
        records
            .iter()
            .for_each(|record| record.write(&mut text).unwrap());
        text
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let text = "\\PC{0,12}".prop_map(String::into_bytes);
        let bytes = prop_oneof![text, vec(any::<u8>(), 0..12)];
        (vec(any::<u8>(), 1..9), bytes, any::<i64>()).prop_map(|(key, value, lease)| Record {
            key: key.into(),
            value: value.into(),
            version: 1,
            lease,
            ..Record::default()
        })
    }

    proptest! {
        #[test]
        fn what_is_exported_is_read_again(records in vec(any_record(), 0..20)) {
            let mut records = records;
            records.sort_by(|one, other| one.key.cmp(&other.key));
            records.dedup_by(|one, other| one.key == other.key);
            let read = file(written(&records)).unwrap().records().unwrap();
            prop_assert_eq!(read, records);
        }
    }

    #[test]
    fn a_field_says_whether_it_is_text() {
        let record = Record {
            key: "a".into(),
            value: Bytes::from_static(b"\xff"),
            ..Record::default()
        };
        let text = String::from_utf8(written(&[record])).unwrap();
        assert!(
            text.contains(r#""key":"a","value_base64":"/w==""#),
            "{text}"
        );
    }

    #[test]
    fn a_cut_or_changed_export_is_refused_with_the_line() {
        let record = Record {
            key: "a".into(),
            ..Record::default()
        };
        let whole = written(&[record]);
        let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let cut = file(whole[..head].to_vec()).unwrap().records();
        assert_eq!(
            cut.unwrap_err().text,
            "x.json:2: it has 0 keys of 1: it was cut"
        );
        let twice = [&whole[..], &whole[head..]].concat();
        let twice = file(twice).unwrap().records().unwrap_err().text;
        assert_eq!(twice, "x.json:3: keys are out of order");
        assert!(file(b"{}\n".to_vec()).is_err());
    }
}

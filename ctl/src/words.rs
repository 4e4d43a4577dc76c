//! Where the command stands in a line. etcdctl takes the flags of a command before it as well, and
//! clap takes there only those that all commands share; so the command is moved to the front.

use std::ffi::OsString;

use clap::{Arg, Command};

/// `line` with its command, and the commands below it, behind the program's name.
pub fn command_first(grammar: &Command, line: Vec<OsString>) -> Vec<OsString> {
    let mut words = line.into_iter();
    let mut ordered: Vec<OsString> = words.next().into_iter().collect();
    let mut rest: Vec<OsString> = words.collect();
    let mut levels = vec![grammar];
    while let Some(at) = first_argument(&levels, &rest) {
        let level = levels.last().expect("it begins with one");
        let Some(found) = level.find_subcommand(&rest[at]) else {
            break;
        };
        ordered.push(rest.remove(at));
        levels.push(found);
    }
    ordered.extend(rest);
    ordered
}

/// The place of the first word that is neither a flag nor the value of one. A flag that is not
/// known yet counts as one with a value, as in etcdctl.
fn first_argument(levels: &[&Command], words: &[OsString]) -> Option<usize> {
    let mut at = 0;
    loop {
        let word = words.get(at)?.as_encoded_bytes();
        let has_value = match word {
            b"--" => return None,
            [b'-', b'-', name @ ..] => !name.contains(&b'=') && !is_switch(levels, name),
            [b'-', letter] => !is_switch(levels, &[*letter]),
            [b'-', _, ..] => false,
            _ => return Some(at),
        };
        at += if has_value { 2 } else { 1 };
    }
}

fn is_switch(levels: &[&Command], name: &[u8]) -> bool {
    let is_named = |arg: &Arg| {
        let long = arg.get_long().map(str::as_bytes);
        let short = arg.get_short().map(|letter| letter as u8);
        long == Some(name) || short.is_some_and(|letter| [letter] == *name)
    };
    let mut known = levels.iter().flat_map(|level| level.get_arguments());
    known.any(|arg| is_named(arg) && arg.is_require_equals_set())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn ordered(line: &str) -> String {
        let line = line.split(' ').map(OsString::from).collect();
        let words = command_first(&crate::command(), line);
        words.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn a_command_stands_before_its_flags_however_they_are_written() {
        let expected = [
            ("ctl get a --rev 1", "ctl get a --rev 1"),
            ("ctl --rev 1 get a", "ctl get --rev 1 a"),
            ("ctl --consistency=s get a", "ctl get --consistency=s a"),
            ("ctl -w json --hex get a", "ctl get -w json --hex a"),
            (
                "ctl --learner=true member add a",
                "ctl member add --learner=true a",
            ),
            (
                "ctl member --peer-urls u add a",
                "ctl member add --peer-urls u a",
            ),
            // An unknown flag takes the next word.
            ("ctl --prefix get a", "ctl --prefix get a"),
            ("ctl -- get a", "ctl -- get a"),
            ("ctl lock --ttl 5 l get", "ctl lock --ttl 5 l get"),
            ("ctl", "ctl"),
        ];
        for (line, expected) in expected {
            assert_eq!(ordered(line), expected);
        }
    }
}

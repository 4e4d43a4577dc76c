//! When a changed option takes effect in a member that runs.

use std::fmt;

use crate::option::by_key;

/// When a change of an option takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At the reload, for what begins after it; open streams and connections go on.
    Reload,
    /// At the next start; the running value stays until then.
    Restart,
    /// Never for this member: its first start settled who it is. One that joined asks the
    /// addresses in `cluster.join` or `cluster.initial`, at each start, whether it still belongs.
    FirstStart,
    /// Never: the option says which member this is, so a reload that would change it is refused.
    Identity,
}

impl Effect {
    /// When a change of the option `key` takes effect.
    #[must_use]
    pub fn of(key: &str) -> Effect {
        by_key(key).map_or(Effect::Restart, |option| option.effect)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Reload => "reload",
            Effect::Restart => "restart",
            Effect::FirstStart => "first start only",
            Effect::Identity => "never",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_takes_effect_as_its_row_says() {
        assert_eq!(Effect::of("client.workers"), Effect::Restart);
        assert_eq!(Effect::of("log.level"), Effect::Reload);
        assert_eq!(Effect::of("member.name"), Effect::Identity);
        assert_eq!(Effect::of("cluster.token"), Effect::FirstStart);
    }
}

# why: the events of one revision come in parts
# file: actors/src/watch_hub/fan_out/mod.rs
# guard: simulation no_misfortune
/pub\(super\) fn committed/,/^    \}/s/self\.fan_out\(events\);/for event in events { self.fan_out(vec![event]); }/

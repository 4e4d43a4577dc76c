# why: the events of one revision come in parts
# file: actors/src/watch_hub/fan_out/mod.rs
/pub\(super\) fn committed/,/^    \}/s/= self\.fan_out\(events, last\);/= if MUTATED { for event in events { self.fan_out(vec![event], last); } last } else { self.fan_out(events, last) };/

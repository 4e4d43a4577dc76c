# why: a start takes a store that a snapshot has replaced for one whose log is lost
# file: actors/src/store_writer/mod.rs
s/match self\.setup\.dir\.begin_replacing\(state\) \{/match if MUTATED { Ok(()) } else { self.setup.dir.begin_replacing(state) } {/

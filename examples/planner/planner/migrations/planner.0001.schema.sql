-- depends: 0009.note_search

-- Why: the tables of the extension planner stand in a schema of their own.

create schema planner;

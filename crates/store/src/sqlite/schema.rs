//! The file format: how a database says that it is ours, its tables, and the comparison with what is in a file.

use rusqlite::Connection;

/// `PRAGMA application_id` of a Strongroom store: "SRst".
pub(super) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"SRst");

/// `PRAGMA user_version`: raised with each change of the tables.
pub(super) const FORMAT: u32 = 1;

/// The page size of every store, so that a header tells the length that the file must have.
pub(super) const PAGE_BYTES: u32 = 4096;

/// The tables as SQLite keeps their text; their order is that of their creation.
const TABLES: [&str; 2] = [
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL) STRICT",
    "CREATE TABLE entry (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, \
     created INTEGER NOT NULL, modified INTEGER NOT NULL) STRICT",
];

/// Makes the tables of an empty store in one transaction.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    let tables = TABLES.join(";\n");
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {FORMAT};
         {tables};
         INSERT INTO head (id, revision) VALUES (1, 0);
         COMMIT;"
    ))
}

/// Says whether the tables are exactly ours, with no trigger, view or index beside them.
pub(super) fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    let mut query =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let found: Vec<String> = query
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(found == TABLES)
}

//! Users and groups in the text of `/etc/passwd` and `/etc/group`. Nobody logs in as them: the names keep their ids from
//! being given to somebody else, and show in listings.

use super::layout::Account;

/// Why an account cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// Somebody else has the id.
    Id { id: u32, by: String },
    /// The name has another id.
    Name { name: &'static str, id: String },
}

/// One of the two files, without what is not ours to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Database<'a>(pub(super) &'a str);

impl Database<'_> {
    /// Tells whether the account is there.
    pub(super) fn has(self, account: &Account) -> Result<bool, Taken> {
        let Account { name, id } = account;
        let number = id.to_string();
        let mut found = false;
        for (known, known_id) in self.entries() {
            match (known == *name, known_id == number) {
                (true, true) => found = true,
                (true, false) => {
                    let id = known_id.to_owned();
                    return Err(Taken::Name { name, id });
                }
                (false, true) => {
                    let by = known.to_owned();
                    return Err(Taken::Id { id: *id, by });
                }
                (false, false) => {}
            }
        }
        Ok(found)
    }

    /// Name and id of each line.
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?))
        })
    }
}

/// The line of `/etc/passwd`. The password field opens for no password.
pub(super) fn user_line(account: &Account) -> String {
    let Account { name, id } = account;
    format!("{name}:*:{id}:{id}:Strongroom:/nonexistent:/usr/sbin/nologin\n")
}

/// The line of `/etc/group`.
pub(super) fn group_line(account: &Account) -> String {
    let Account { name, id } = account;
    format!("{name}:*:{id}:\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account = Account {
        name: "strongroom-key-service",
        id: 2001,
    };

    #[test]
    fn account_is_missing_there_or_taken() {
        let root = "root:x:0:0:root:/root:/bin/sh\n";
        assert_eq!(Database(root).has(&ACCOUNT), Ok(false));
        let there = format!("{root}{}", user_line(&ACCOUNT));
        assert_eq!(Database(&there).has(&ACCOUNT), Ok(true));
        assert_eq!(Database(&group_line(&ACCOUNT)).has(&ACCOUNT), Ok(true));
        assert_eq!(
            Database("alice:x:2001:100::/:/bin/sh\n").has(&ACCOUNT),
            Err(Taken::Id {
                id: 2001,
                by: "alice".to_owned()
            })
        );
        assert_eq!(
            Database("strongroom-key-service:x:999:\n").has(&ACCOUNT),
            Err(Taken::Name {
                name: ACCOUNT.name,
                id: "999".to_owned()
            })
        );
    }
}

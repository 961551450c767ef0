//! The format's tables: every field there is, what it holds and what it belongs to. The reader, the JSON schema and the
//! documents all come from here. Knows no file.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// A text, or several.
    Texts,
    /// Several texts.
    List,
    /// A whole number from .. to.
    Whole(u32, u32),
    /// true or false.
    Flag,
    /// A time: "5s".
    Time,
    /// A text, a number, true or false.
    Scalar,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number of writes a second, or "max".
    Rate,
    /// Rows: an array of arrays of scalars.
    Rows,
    /// Scalars by names of the author's own.
    Scalars,
    /// A table of fields.
    Table(&'static Shape),
    /// Several tables.
    Tables(&'static Shape),
}

impl Kind {
    /// What is expected, for a person.
    pub fn in_words(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Texts => "a text in quotes, or several in brackets".to_owned(),
            Self::List => "several texts in brackets".to_owned(),
            Self::Whole(from, to) => format!("a whole number from {from} to {to}"),
            Self::Flag => "true or false".to_owned(),
            Self::Time => "a time, like \"5s\", \"250ms\" or \"1m 30s\"".to_owned(),
            Self::Scalar => "a text, a number, true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Rate => "a number of writes per second (1 to 1000000) or \"max\"".to_owned(),
            Self::Rows => "rows in brackets, each in brackets: [[\"a\", 1], [\"b\", 2]]".to_owned(),
            Self::Scalars | Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "tables, each with its [[heading]]".to_owned(),
        }
    }
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// Of a step: the actions it goes with; none where it goes with all.
    pub with: &'static [&'static str],
    /// What it says, in a line.
    pub help: &'static str,
}

/// A table of the file.
#[derive(Debug)]
pub struct Shape {
    /// What it is, for a person: "a step".
    pub what: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

const fn must(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, kind, required: true, with: &[], help }
}

const fn may(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, kind, required: false, with: &[], help }
}

const fn of(with: &'static [&'static str], name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, kind, required: false, with, help }
}

/// What a step does: exactly one of these.
pub const ACTIONS: [&str; 7] = ["say", "do", "wait", "expect", "ask", "sql", "pause"];

/// What may stand alone in a step, and then belongs to the step after it.
pub const TRIMMINGS: [&str; 3] = ["chapter", "hint", "note"];

/// A lesson.
pub static LESSON: Shape = Shape {
    what: "a lesson",
    fields: &[
        must("title", Kind::Text, "what it is called"),
        must("summary", Kind::Text, "what one will see, in a line"),
        may("level", Kind::Text, "for whom"),
        may("minutes", Kind::Whole(1, 600), "how long it takes, with reading"),
        may("requires", Kind::Whole(10, 99), "the major version of PostgreSQL that it needs at least"),
        may("cluster", Kind::Table(&CLUSTER), "the nodes; p with two standbys when left out"),
        may("settings", Kind::Scalars, "PostgreSQL settings of every node"),
        may("writer", Kind::Table(&WRITER), "the writer as it begins"),
        may("vars", Kind::Scalars, "what ${name} stands for in the texts of the steps"),
        may("step", Kind::Tables(&STEP), "the steps, in order"),
    ],
};

/// A topology.
pub static TOPOLOGY: Shape = Shape {
    what: "a topology",
    fields: &[
        may("node", Kind::Tables(&NODE), "the nodes, upstream first"),
        may("settings", Kind::Scalars, "PostgreSQL settings of every node"),
    ],
};

static CLUSTER: Shape = Shape {
    what: "the cluster",
    fields: &[
        may("standbys", Kind::Whole(0, 16), "primary p and so many standbys s1, s2, ..."),
        may("node", Kind::Tables(&NODE), "or node by node, upstream first"),
    ],
};

static NODE: Shape = Shape {
    what: "a node",
    fields: &[
        must("name", Kind::Text, "its name: a-z, 0-9 and _, a letter first"),
        may("follows", Kind::Text, "the node it follows; the primary follows nobody"),
    ],
};

static WRITER: Shape = Shape {
    what: "the writer",
    fields: &[
        may("clients", Kind::Whole(0, 64), "how many clients write"),
        may("rate", Kind::Rate, "writes per second over all clients, or \"max\""),
        may("commit", Kind::Word(&crate::model::command::COMMIT_LEVELS), "synchronous_commit of its sessions"),
        may("paused", Kind::Flag, "whether it rests at first"),
    ],
};

/// A step.
pub static STEP: Shape = Shape {
    what: "a step",
    fields: &[
        may("say", Kind::Text, "narration in markdown; the first line is its heading"),
        may("do", Kind::Texts, "commands, each when the one before it is done"),
        may("wait", Kind::Text, "goes on when the condition holds; if it doesn't in time, the lesson ends there"),
        may("expect", Kind::Text, "the condition must hold: now, within a time, and then during a time"),
        may("ask", Kind::Text, "a question, told when the next text or the end comes: predict, watch, compare"),
        may("sql", Kind::Text, "SQL on a node, and what it must give; an error that isn't expected ends the lesson"),
        may("pause", Kind::Time, "nothing for that long; the cluster goes on"),
        may("chapter", Kind::Text, "a chapter of that name begins here"),
        may("hint", Kind::Texts, "hints for the learner, the mildest first"),
        may("note", Kind::Text, "for the presenter's eyes only"),
        may("name", Kind::Text, "what the step is called in reports"),
        may("since", Kind::Whole(10, 99), "the step comes only on this major version of PostgreSQL and later ones"),
        may("until", Kind::Whole(10, 99), "the step comes only on this major version of PostgreSQL and earlier ones"),
        may("repeat", Kind::Whole(1, 1000), "the step comes so many times; ${n} is the number, from 1"),
        may("each", Kind::List, "the step comes once for each; ${it} is the text"),
        of(&["do"], "together", Kind::Flag, "all the commands at once"),
        of(&["do", "sql"], "refused", Kind::Text, "a part of the message with which the lab must refuse"),
        of(&["do"], "may_fail", Kind::Flag, "commands may be refused or fail; the lesson goes on"),
        of(&["wait", "expect", "sql"], "within", Kind::Time, "the time it may take"),
        of(&["expect"], "during", Kind::Time, "how long it must then hold"),
        of(&["ask"], "choices", Kind::List, "what can be answered, 2 to 9"),
        of(&["ask"], "answer", Kind::Whole(1, 9), "which of them is right, from 1"),
        of(&["ask"], "why", Kind::Text, "why, in markdown: told with the answer"),
        of(&["sql"], "on", Kind::Text, "the node; a session that is open knows it"),
        of(&["sql"], "session", Kind::Text, "the session it runs in, which is kept; without it, one of its own"),
        of(&["sql"], "background", Kind::Flag, "the lesson goes on while it runs; needs a session"),
        of(&["sql"], "value", Kind::Scalar, "it must give one row with this one value"),
        of(&["sql"], "rows", Kind::Rows, "it must give exactly these rows"),
        of(&["sql"], "error", Kind::Text, "it must fail with this SQLSTATE"),
        of(&["sql"], "notice", Kind::Text, "a notice or warning must have this in it"),
    ],
};

/// Settings that run programs, load code or move the server: a lesson doesn't decide them.
pub const KEPT_FROM_LESSONS: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "config_file",
    "data_directory",
    "dynamic_library_path",
    "extension_control_path",
    "external_pid_file",
    "hba_file",
    "hosts_file",
    "ident_file",
    "jit_provider",
    "krb_server_keyfile",
    "listen_addresses",
    "local_preload_libraries",
    "log_directory",
    "log_filename",
    "logging_collector",
    "oauth_validator_libraries",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_end_command",
    "restore_command",
    "session_preload_libraries",
    "shared_preload_libraries",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "ssl_key_file",
    "ssl_library",
    "ssl_passphrase_command",
    "unix_socket_directories",
];

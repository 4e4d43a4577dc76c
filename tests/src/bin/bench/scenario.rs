//! What is measured, and the targets against etcd 3.5.1.

use althing_tests::load::Protocol;
use althing_tests::load::workload::Kind;

/// A figure of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Answers per second.
    Throughput,
    /// Median latency.
    P50,
    /// Latency that one answer of a hundred exceeds.
    P99,
    /// The server's processor time per answer.
    Cpu,
}

/// A bound for the ratio of ours to etcd's.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bound {
    /// Whether a ratio is within the bound.
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => ratio >= bound,
            Bound::AtMost(bound) => ratio <= bound,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    what: &'static str,
    /// What the clients do.
    pub kind: Kind,
    /// How they reach the server.
    pub protocol: Protocol,
    /// How many connections they use.
    pub connections: usize,
    /// The figures to be reached.
    pub targets: &'static [(Figure, Bound)],
}

impl Scenario {
    /// Requests in flight.
    pub fn clients(&self) -> usize {
        match self.protocol {
            Protocol::Grpc { streams } => self.connections * streams,
            Protocol::Json => self.connections,
        }
    }

    /// The row's name, which `--only` is compared with.
    pub fn name(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Grpc { .. } => "grpc",
            Protocol::Json => "json",
        };
        format!("{protocol} {} {}", self.what, self.clients())
    }
}

const NONE: &[(Figure, Bound)] = &[];
const MANY: &[(Figure, Bound)] = &[
    (Figure::Throughput, Bound::AtLeast(2.0)),
    (Figure::P99, Bound::AtMost(0.5)),
    (Figure::Cpu, Bound::AtMost(0.4)),
];
const ONE_PUT: &[(Figure, Bound)] = &[(Figure::P50, Bound::AtMost(0.8))];
const JSON_GET: &[(Figure, Bound)] = &[(Figure::Cpu, Bound::AtMost(0.2))];
const RANGE: &[(Figure, Bound)] = &[(Figure::Throughput, Bound::AtLeast(3.0))];
const PAGE: &[(Figure, Bound)] = &[(Figure::Throughput, Bound::AtLeast(10.0))];

const LINEARIZABLE: Kind = Kind::Get {
    serializable: false,
};
const SERIALIZABLE: Kind = Kind::Get { serializable: true };

const fn grpc(
    what: &'static str,
    kind: Kind,
    (connections, streams): (usize, usize),
    targets: &'static [(Figure, Bound)],
) -> Scenario {
    let protocol = Protocol::Grpc { streams };
    Scenario {
        what,
        kind,
        protocol,
        connections,
        targets,
    }
}

const fn json(
    what: &'static str,
    kind: Kind,
    connections: usize,
    targets: &'static [(Figure, Bound)],
) -> Scenario {
    Scenario {
        what,
        kind,
        protocol: Protocol::Json,
        connections,
        targets,
    }
}

/// Every row. 64 clients have a connection each; 256 gRPC clients share 64 connections, four
/// requests in flight on each; 256 JSON clients have a connection each.
pub const SCENARIOS: &[Scenario] = &[
    grpc("put", Kind::Put, (1, 1), ONE_PUT),
    grpc("put", Kind::Put, (64, 1), MANY),
    grpc("put", Kind::Put, (64, 4), MANY),
    grpc("get", LINEARIZABLE, (1, 1), NONE),
    grpc("get", LINEARIZABLE, (64, 1), MANY),
    grpc("get", LINEARIZABLE, (64, 4), MANY),
    grpc("get-serializable", SERIALIZABLE, (1, 1), NONE),
    grpc("get-serializable", SERIALIZABLE, (64, 1), MANY),
    grpc("get-serializable", SERIALIZABLE, (64, 4), MANY),
    grpc("mixed-80/20", Kind::Mixed, (64, 1), NONE),
    grpc("range-1000", Kind::Range, (1, 1), RANGE),
    grpc("range-1000", Kind::Range, (8, 1), RANGE),
    grpc("page-1000", Kind::Page, (1, 1), PAGE),
    grpc("page-1000", Kind::Page, (8, 1), PAGE),
    json("put", Kind::Put, 1, NONE),
    json("put", Kind::Put, 64, NONE),
    json("put", Kind::Put, 256, NONE),
    json("get", LINEARIZABLE, 1, JSON_GET),
    json("get", LINEARIZABLE, 64, JSON_GET),
    json("get", LINEARIZABLE, 256, JSON_GET),
    json("get-serializable", SERIALIZABLE, 64, JSON_GET),
    json("mixed-80/20", Kind::Mixed, 64, NONE),
    json("range-1000", Kind::Range, 8, NONE),
    json("page-1000", Kind::Page, 8, NONE),
];

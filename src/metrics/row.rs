//! A metric with its samples, and how it is written.

use actors::base::histogram::{Bounds, Distribution};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The units of names, by how these end.
const UNITS: [(&str, Unit); 2] = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];

/// One metric.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) samples: Vec<Sample>,
}

/// A value, and what tells it from the others of its metric.
pub(super) type Sample = (Vec<Label>, Value);
type Label = (&'static str, &'static str);

#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Float(f64),
    Lengths(&'static Bounds, Distribution),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

/// The samples of a metric; none: whoever knows them does not answer.
pub(super) trait Samples {
    fn samples(self) -> Vec<Sample>;
}

impl Samples for Option<Value> {
    fn samples(self) -> Vec<Sample> {
        self.map(|value| (Vec::new(), value)).into_iter().collect()
    }
}

impl Samples for [Value; 1] {
    fn samples(self) -> Vec<Sample> {
        Some(self[0]).samples()
    }
}

impl Samples for u64 {
    fn samples(self) -> Vec<Sample> {
        [Value::Whole(self)].samples()
    }
}

impl Samples for Option<u64> {
    fn samples(self) -> Vec<Sample> {
        self.map(Value::Whole).samples()
    }
}

/// Told apart by a label of this name.
pub(super) struct By<T>(pub(super) &'static str, pub(super) Vec<(&'static str, T)>);

impl<T: Into<Value>> Samples for By<T> {
    fn samples(self) -> Vec<Sample> {
        let Self(label, samples) = self;
        samples.into_iter().map(|(value, sample)| (vec![(label, value)], sample.into())).collect()
    }
}

impl Samples for Vec<Sample> {
    fn samples(self) -> Vec<Sample> {
        self
    }
}

pub(super) fn gauge(name: &'static str, help: &'static str, samples: impl Samples) -> Row {
    Row { name, help, kind: MetricType::Gauge, samples: samples.samples() }
}

pub(super) fn counter(name: &'static str, help: &'static str, samples: impl Samples) -> Row {
    Row { name, help, kind: MetricType::Counter, samples: samples.samples() }
}

pub(super) fn histogram(name: &'static str, help: &'static str, samples: impl Samples) -> Row {
    Row { name, help, kind: MetricType::Histogram, samples: samples.samples() }
}

/// What is written of a scrape.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Vec<Row>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for row in self.0.iter().filter(|row| !row.samples.is_empty()) {
            let unit = UNITS.iter().find_map(|(end, unit)| Some((row.name.strip_suffix(end)?, unit)));
            let (name, unit) = unit.map_or((row.name, None), |(name, unit)| (name, Some(unit)));
            let mut metric = encoder.encode_descriptor(name, row.help, unit, row.kind)?;
            for (labels, value) in &row.samples {
                if row.kind == MetricType::Info {
                    metric.encode_info(labels)?;
                } else if labels.is_empty() {
                    put(&mut metric, row.kind, *value)?;
                } else {
                    put(&mut metric.encode_family(labels)?, row.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn put(metric: &mut MetricEncoder<'_>, kind: MetricType, value: Value) -> Result<(), std::fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Whole(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        }
        (MetricType::Counter, Value::Float(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        }
        (_, Value::Whole(value)) => metric.encode_gauge(&value),
        (_, Value::Float(value)) => metric.encode_gauge(&value),
        (_, Value::Lengths(bounds, times)) => {
            let buckets: Vec<_> = bounds.seconds().zip(times.counts).collect();
            let sum = times.sum_micros as f64 / 1e6;
            metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
        }
    }
}

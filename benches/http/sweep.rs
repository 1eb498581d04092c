//! A sweep: the same measurement for each value of one setting, or of one option of the bench.

use clap::ValueEnum;
use serde_json::{Value, json};
use testkit::plot::{self, Axis};

use crate::devices::Polls;
use crate::run::Plan;
use crate::{Fault, Store};

/// What is changed from one measurement to the next.
#[derive(Clone, Debug)]
pub struct Sweep {
    name: String,
    values: Vec<String>,
}

impl Sweep {
    /// From `NAME=V1,V2,…`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or("wants NAME=VALUE,VALUE")?;
        let values: Vec<String> = values.split(',').map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), values })
    }

    /// Measures each; the points of the sweep.
    pub async fn run(&self, plan: &Plan) -> Result<Vec<(String, Value)>, Fault> {
        let mut points = Vec::new();
        for value in &self.values {
            eprintln!("{} = {value}", self.name);
            let figures = self.apply(plan.clone(), value)?.run().await?;
            println!("{} = {value}\n{figures}\n", self.name);
            points.push((value.clone(), figures.to_json()));
        }
        Ok(points)
    }

    fn apply(&self, mut plan: Plan, value: &str) -> Result<Plan, Fault> {
        match self.name.as_str() {
            "pending" => plan.pending = value.parse()?,
            "connections" => plan.connections = value.parse()?,
            "store" => plan.store = Store::from_str(value, true)?,
            "polls" => plan.polls = Polls::from_str(value, true)?,
            setting => plan.settings.push((setting.to_owned(), value.to_owned())),
        }
        Ok(plan)
    }

    /// The points as JSON.
    pub fn to_json(&self, points: &[(String, Value)]) -> Value {
        let points: Vec<Value> =
            points.iter().map(|(value, figures)| json!({ "value": value, "figures": figures })).collect();
        json!({ "name": self.name, "points": points })
    }

    /// Bars of one figure, as SVG.
    pub fn plot(&self, points: &[(String, Value)], figure: &str, title: &str) -> Result<String, Fault> {
        let bars: Vec<(String, f64)> = points
            .iter()
            .map(|(value, figures)| (value.clone(), figures[figure].as_f64().unwrap_or_default()))
            .collect();
        Ok(plot::bars(title, &self.name, Axis::linear(title), &bars)?)
    }
}

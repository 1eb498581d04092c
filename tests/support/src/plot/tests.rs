use super::*;

#[test]
fn lines_are_drawn_on_any_scale() {
    let series = [
        Series::new("a < b", [(1.0, 2.0), (10.0, 30.0), (f64::NAN, 1.0)]),
        Series::new("none", []),
        Series::new("zero", [(1.0, 0.0), (2.0, 1.0)]),
    ];
    let percentile = Axis { title: "part", scale: Scale::Percentile };
    for x in [Axis::linear("time (s)"), Axis::log("time (s)"), percentile] {
        for y in [Axis::linear("latency (ms)"), Axis::log("latency (ms)")] {
            let svg = lines("Latency", x, y, &series).expect("a plot");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for part in ["Latency", x.title, "latency (ms)", "a &lt; b", "zero"] {
                assert!(svg.contains(part), "{part} is missing");
            }
            assert!(!svg.contains("NaN") && !svg.contains("none\n"), "{svg}");
        }
    }
}

#[test]
fn bars_have_labels() {
    let told = [("p50".to_owned(), 1.5), ("p99".to_owned(), 20.0), ("never".to_owned(), 0.0)];
    for y in [Axis::linear("time (ms)"), Axis::log("time (ms)")] {
        let svg = bars("Times", "stage", y, &told).expect("a plot");
        for part in ["Times", "stage", "time (ms)", "p50", "1.5", "never"] {
            assert!(svg.contains(part), "{part} is missing");
        }
    }
}

#[test]
fn what_has_no_points_is_refused() {
    let (x, y) = (Axis::linear("x"), Axis::log("y"));
    let empty = Err(PlotError::Empty("t".to_owned()));
    assert_eq!(lines("t", x, y, &[Series::new("zero", [(1.0, 0.0)])]), empty);
    assert_eq!(bars("t", "x", y, &[]), empty);
}

#[test]
fn numbers_are_short() {
    let told = [0.0, 0.05, 1.0, 2.5, 120.0, 40_000.0, 12e6].map(number);
    assert_eq!(told, ["0", "0.05", "1", "2.5", "120", "40k", "12M"]);
    let percentile = Axis { title: "", scale: Scale::Percentile };
    assert_eq!([1.0, 2.0, 10.0, 1e3].map(|value| percentile.label(value)), ["0 %", "50 %", "90 %", "99.9 %"]);
}

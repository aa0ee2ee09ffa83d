//! Numbers and classes as labels, from the job file to the scored table, in process and on a cluster.

use serde_json::Value;

use crate::cli_cluster::cluster;
use crate::support::Workplace;

/// Bad usage or input.
const USAGE: i32 = 2;

/// The last scored day.
const SCORE: [&str; 6] = ["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-11"];

/// Minutes of delay: a step of `x`, another of the carrier, and weights that count a carrier half.
const NUMBERS: &str = "
    select id, ds, carrier, x, late,
           case when id % 13 <> 0 then case when x > 5 then 40.0 else 10.0 end + case carrier when 'AA' then 5 else 0 end
                + (id * 7919) % 41 / 10.0 end as delay,
           case carrier when 'AA' then 1.0 else 0.5 end as importance
    from small";

/// Three classes of `x`, by name.
const CLASSES: &str = "
    select id, ds, carrier, x, late,
           case when x > 7 then 'very late' when x > 3 then 'late' when x is not null then 'early' end as how
    from small";

pub(crate) fn regression() -> Workplace {
    let work = Workplace::new();
    work.write("features.sql", NUMBERS);
    work.edit("train.yaml", "label: late", "label: delay\nproblem_type: regression\nweight: importance");
    trees(&work);
    work.edit("score.yaml", "columns: [id, late]", "columns: [id, delay]");
    work
}

pub(crate) fn multiclass() -> Workplace {
    let work = Workplace::new();
    work.write("features.sql", CLASSES);
    work.edit("train.yaml", "label: late", "label: how\nproblem_type: multiclass");
    trees(&work);
    work.edit("score.yaml", "columns: [id, late]", "columns: [id, how]");
    work
}

/// The grid is two candidates of trees.
fn trees(work: &Workplace) {
    let grid = "gradient_boosted_trees:\n      min_instances_per_node: 5\n      max_iter: [10, 20]";
    work.edit("train.yaml", "logistic_regression:\n      reg_param: [0.01, 0.1]", grid);
}

/// Runs both jobs in process and on a cluster, and gives the rows of the query, which must be the same.
fn everywhere(work: &Workplace, sql: &str) -> Vec<Value> {
    let (_cluster, address) = cluster(work, &[]);
    let rows = [("local", vec![]), ("remote", vec!["--cluster", &address])].map(|(warehouse, mode)| {
        let place = ["--warehouse", warehouse];
        work.succeed(&[&["run", "train.yaml"], &place[..], &mode].concat());
        work.succeed(&[&SCORE[..], &place, &mode].concat());
        work.succeed(&[&["sql", "--format", "json", "-c", sql], &place[..], &mode].concat()).objects()
    });
    let digests = ["local", "remote"].map(|warehouse| {
        let model = work.succeed(&["models", "show", "small@live", "--json", "--warehouse", warehouse]);
        model.objects()[0]["digest"].clone()
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(rows[0], rows[1]);
    rows[0].clone()
}

#[test]
fn numbers_are_predicted() {
    let work = regression();
    let rows = everywhere(&work, "select id, delay, predicted from small_scored where delay is not null order by id");
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    assert!(rows.len() > 150, "{}", rows.len());
    // What is not in the features is within 4 minutes; the step of `x` alone is 30.
    let squares: f64 = rows.iter().map(|r| (number(r, "delay") - number(r, "predicted")).powi(2)).sum();
    assert!((squares / rows.len() as f64).sqrt() < 4.0, "{squares} of {}", rows.len());

    let report = work.succeed(&["run", "train.yaml", "--warehouse", "local"]).stdout;
    for part in ["ranked by their mean rmse", "r2", "mean prediction", "mean label"] {
        assert!(report.contains(part), "the report lacks {part:?}: {report}");
    }
    let sql = "select round(predict('small@live'), 6) as p from (select 9.0 as x, 'AA' as carrier)";
    let one = work.succeed(&["sql", "--format", "json", "--warehouse", "local", "-c", sql]).objects();
    assert!((number(&one[0], "p") - 47.0).abs() < 4.0, "{one:?}");
}

#[test]
fn classes_are_predicted_with_their_probabilities() {
    let work = multiclass();
    let sql = "select id, how, predicted, probability from small_scored where how is not null order by id";
    let rows = everywhere(&work, sql);
    let right = rows.iter().filter(|row| row["how"] == row["predicted"]).count();
    assert!(right * 10 > rows.len() * 9, "{right} of {}", rows.len());
    let sums = |row: &Value| row["probability"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum::<f64>();
    assert!(rows.iter().all(|row| (sums(row) - 1.0).abs() < 1e-9));

    let report = work.succeed(&["run", "train.yaml", "--warehouse", "local"]).stdout;
    for part in ["ranked by their mean f1", "weighted precision", "very late", "the class that was predicted"] {
        assert!(report.contains(part), "the report lacks {part:?}: {report}");
    }
    // A model of other classes is not measured by the probabilities of these.
    work.edit("features.sql", "then 'early' end", "then 'in time' end");
    let other = work.succeed(&["run", "train.yaml", "--warehouse", "local"]).stdout;
    assert!(
        other.contains("@live stays at version 1: it was trained for another problem or for other classes"),
        "{other}"
    );
    // A struct in SQL: in expressions, filters and groups.
    let sql = "select predict('small@live')['prediction'] as class, count(*) as n,
                      round(min(predict('small@live')['probability'][3]), 3) >= 0 as ok
               from (values (1.0, 'AA'), (5.0, 'UA'), (9.0, 'AA')) as v(x, carrier) group by 1 order by 1";
    let groups = work.succeed(&["sql", "--format", "json", "--warehouse", "local", "-c", sql]).objects();
    let classes: Vec<&str> = groups.iter().map(|group| group["class"].as_str().unwrap()).collect();
    assert_eq!(classes, ["early", "late", "very late"]);
    assert!(groups.iter().all(|group| group["ok"] == true), "{groups:?}");
}

#[test]
fn labels_that_do_not_fit_are_told_with_their_count() {
    let fails = |work: &Workplace, says: &[&str]| {
        work.tidemill(&["run", "train.yaml"]).fails(USAGE, says);
        assert!(work.files("models").is_empty());
    };
    let work = regression();
    work.edit("train.yaml", "null_labels: leave_out\n", "");
    fails(&work, &["\"delay\" is null in 56 of 720 rows", "null_labels: leave_out"]);

    let work = regression();
    work.edit("features.sql", "end as delay", "end * 0 as delay");
    fails(&work, &["\"delay\" is constant", "nothing to learn"]);

    let work = regression();
    work.edit("features.sql", "then 5 else 0 end", "then 'NaN'::double else 0 end");
    fails(&work, &["\"delay\" must be a finite number", "rows have NaN or an infinity"]);

    let work = regression();
    work.edit("train.yaml", "label: delay", "label: carrier");
    fails(&work, &["label \"carrier\" is Utf8", "expected numbers", "regression", "multiclass"]);

    let work = regression();
    work.edit("features.sql", "else 0.5 end as importance", "else -0.5 end as importance");
    fails(&work, &["weight \"importance\"", "at least 0", "rows to train on"]);

    let work = regression();
    work.edit("features.sql", "else 0.5 end as importance", "else 'NaN'::double end as importance");
    fails(&work, &["weight \"importance\"", "finite number"]);

    let work = multiclass();
    work.edit("features.sql", "end as how", "end || cast(id as text) as how");
    fails(&work, &["more than 256 classes", "regression"]);

    let work = multiclass();
    work.edit("features.sql", "case when x > 7", "case when ds = date '2024-01-03' then 'rare' when x > 7");
    fails(&work, &["class rare of label \"how\"", "(2 folds)", "kind: stratified"]);

    let work = multiclass();
    work.edit("features.sql", "case when x > 7", "case when ds = date '2024-01-11' then 'new' when x > 7");
    fails(&work, &["split.holdout that no row of split.train has"]);
}

#[test]
fn a_grid_for_another_problem_is_refused_before_anything_runs() {
    let work = regression();
    work.edit("train.yaml", "max_iter: [10, 20]", "loss_type: [squared, logistic]");
    let expected = "gradient_boosted_trees loss_type: expected one of squared, absolute, huber, quantile, poisson";
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["candidate 1", expected, "got \"logistic\""]);

    let work = regression();
    work.edit("train.yaml", "  seed: 1", "  seed: 1\n  metric: area_under_roc");
    work.tidemill(&["run", "train.yaml"])
        .fails(USAGE, &["area_under_roc does not measure a regression problem", "rmse"]);

    let work = regression();
    work.edit("train.yaml", "problem_type: regression", "problem_type: regresion");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["regresion", "did you mean \"regression\"?"]);
}

#[test]
fn rows_without_a_label_are_clustered() {
    let work = Workplace::new();
    work.edit("train.yaml", "label: late\nnull_labels: leave_out\n", "problem_type: clustering\n");
    work.edit("train.yaml", "logistic_regression:\n      reg_param: [0.01, 0.1]", "k_means:\n      k: [2, 3]");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["clusters have none", "tidemill models promote"]);
    work.edit("train.yaml", "  promote: { alias: live }\n", "");
    let report = work.succeed(&["run", "train.yaml"]).stdout;
    assert!(report.contains("ranked by their mean silhouette"), "{report}");
    work.edit("score.yaml", "small@live", "small");
    work.edit("score.yaml", "columns: [id, late]", "columns: [id]");
    work.succeed(&SCORE);
    let rows = work.rows("select predicted as cluster, count(*) as n from small_scored group by 1 order by 1");
    let clusters: Vec<&Value> = rows.iter().map(|row| &row["cluster"]).collect();
    assert!(rows.len() >= 2 && clusters[0] == 0 && clusters[1] == 1, "{rows:?}");

    work.edit("train.yaml", "problem_type: clustering\n", "problem_type: clustering\nlabel: late\n");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["clustering has no label"]);
    work.edit("train.yaml", "problem_type: clustering\nlabel: late\n", "");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["label is missing", "binary"]);
}

#[test]
fn hopeless_candidates_are_given_up_early() {
    let work = regression();
    let random = "  seed: 1\n  search: random\n  n_candidates: 9\n  halving: { factor: 3, min_share: 0.1 }";
    work.edit("train.yaml", "  seed: 1", random);
    work.edit("train.yaml", "max_iter: [10, 20]", "max_iter: 20\n      step_size: { log_uniform: [0.001, 0.5] }");
    let report = work.succeed(&["run", "train.yaml"]).stdout;
    for part in ["9 candidates × 2 folds = 26 fits", "rung 1", "rung 3", "given up at 11.1 %"] {
        assert!(report.contains(part), "the report lacks {part:?}: {report}");
    }
    let runs = work.succeed(&["runs", "list", "--json"]).objects();
    let candidates = runs[0]["train"]["candidates"].as_array().unwrap();
    let shares: Vec<f64> = candidates.iter().map(|c| c["given_up_at"].as_f64().unwrap_or(1.0)).collect();
    let count = |share: f64| shares.iter().filter(|s| (**s - share).abs() < 1e-9).count();
    assert_eq!([count(1.0 / 9.0), count(1.0 / 3.0), count(1.0)], [6, 2, 1], "{shares:?}");
    let best = runs[0]["train"]["best"].as_u64().unwrap() as usize;
    assert_eq!(shares[best], 1.0);

    // The same search again finds the same; another is put beside it.
    work.succeed(&["run", "train.yaml"]);
    work.edit("train.yaml", "n_candidates: 9", "n_candidates: 2");
    work.succeed(&["run", "train.yaml"]);
    let ids: Vec<String> =
        work.succeed(&["runs", "list", "--json"]).objects().iter().map(|r| r["run"].as_str().unwrap().into()).collect();
    let compare = |a: usize, b: usize| work.succeed(&["runs", "compare", &ids[a], &ids[b]]).stdout;
    let differs = |text: &str, fact: &str| {
        let line = text.lines().find(|line| line.contains(fact)).unwrap_or_else(|| panic!("no {fact:?} in {text}"));
        line.trim_start().starts_with('*')
    };
    let (same, other) = (compare(0, 1), compare(0, 2));
    assert!(!differs(&same, "model digest") && !differs(&same, "best parameters"), "{same}");
    assert!(differs(&other, "candidates"), "{other}");
    work.tidemill(&["runs", "compare", &ids[0], "absent"]).fails(USAGE, &["no run absent"]);

    work.edit("train.yaml", "n_candidates: 2", "n_candidates: 0");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["search: random needs grid.n_candidates"]);
    work.edit("train.yaml", "n_candidates: 0", "n_candidates: 4");
    work.edit("train.yaml", "factor: 3", "factor: 1");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["halving.factor must be at least 2, got 1"]);
}

//! Executor ids: `LABELS.HOST.INSTANCE`, e.g. `gpu-1+ssd.host-7.6f1c…` or `cpu.host-7.6f1c…`.
//!
//! Ballista hands placement an executor's id and its free vcores, nothing else: what placement must know stands in the id.

/// The label of executors that take stages asking for a GPU.
pub const GPU_LABEL: &str = "gpu";
/// Stands where an executor has no label.
const NO_LABEL: &str = "cpu";

/// Builds the id of an executor process. Characters that would break the format or a URL become `-` in the host and
/// `_` in labels; the instance must be unique per process start.
pub fn executor_id(gpus: u32, labels: &[String], host: &str, instance: &str) -> String {
    let mut all = Vec::new();
    if gpus > 0 {
        all.push(format!("{GPU_LABEL}-{gpus}"));
    }
    all.extend(labels.iter().map(|label| clean(label, '_')));
    if all.is_empty() {
        all.push(NO_LABEL.to_owned());
    }
    format!("{}.{}.{}", all.join("+"), clean(host, '-'), clean(instance, '-'))
}

/// Whether an executor's id carries a label, with or without a count (`gpu`, `gpu-2`).
pub fn has_label(executor_id: &str, label: &str) -> bool {
    let labels = executor_id.split('.').next().unwrap_or_default();
    labels.split('+').any(|l| l.split('-').next() == Some(label))
}

fn clean(text: &str, replacement: char) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() { c } else { replacement }
    };
    text.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_survive_the_id() {
        let gpu = executor_id(2, &["ssd".into(), "rack-7".into()], "a.b.example", "1-2");
        assert_eq!(gpu, "gpu-2+ssd+rack_7.a-b-example.1-2");
        assert!(has_label(&gpu, "gpu") && has_label(&gpu, "ssd"));
        assert!(!has_label(&gpu, "cpu") && !has_label(&gpu, "rack"));

        let labelled = executor_id(0, &["gpu".into()], "gpu", "1");
        assert!(has_label(&labelled, "gpu"), "a label alone makes a gpu executor");
        let plain = executor_id(0, &[], "gpu", "gpu");
        assert_eq!(plain, "cpu.gpu.gpu");
        assert!(!has_label(&plain, "gpu"), "host and instance are not labels");
    }
}

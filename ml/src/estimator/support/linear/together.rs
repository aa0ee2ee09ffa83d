//! Solvers that take their steps together: what they ask of the rows at a time is one pass.
//!
//! A solver is written as if it were alone, as a future that waits at each pass; when all wait, one pass answers them.
//! A point's answer does not depend on those beside it, so a solver's result does not depend on which others there are.

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures::channel::oneshot;
use futures::stream::{self, StreamExt};

use super::design::Evaluation;
use super::{Passes, RowLoss};
use crate::{MlError, Result};

/// How many solvers are at work at a time: each holds a Hessian.
const AT_A_TIME: usize = 8;

/// The rows of a fit, as solvers that run together see them.
#[derive(Debug)]
pub(crate) struct Together<'a, P, L> {
    pub(super) rows: &'a P,
    pub(super) loss: L,
    evaluations: RefCell<Vec<Asked<Evaluation>>>,
    hessians: RefCell<Vec<Asked<Vec<f64>>>>,
}

/// A point, and who waits for what is there.
type Asked<T> = (Vec<f64>, oneshot::Sender<Result<T>>);

impl<'a, P: Passes, L: RowLoss> Together<'a, P, L> {
    pub(crate) fn new(rows: &'a P, loss: L) -> Self {
        Self { rows, loss, evaluations: RefCell::default(), hessians: RefCell::default() }
    }

    /// Runs solvers, some at a time, each to its end; gives what they give, in their order.
    pub(crate) fn run<S: Future>(&self, solvers: impl IntoIterator<Item = S>) -> Vec<S::Output> {
        let mut all = pin!(stream::iter(solvers).buffered(AT_A_TIME).collect::<Vec<_>>());
        loop {
            match all.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(results) => return results,
                Poll::Pending => self.answer(),
            }
        }
    }

    /// The mean loss and its gradient at a point.
    pub(super) async fn evaluate(&self, point: &[f64]) -> Result<Evaluation> {
        ask(&self.evaluations, point).await
    }

    /// The Hessian at a point.
    pub(super) async fn hessian(&self, point: &[f64]) -> Result<Vec<f64>> {
        ask(&self.hessians, point).await
    }

    fn answer(&self) {
        give(self.evaluations.take(), |points| self.rows.evaluate(&self.loss, points));
        give(self.hessians.take(), |points| points.iter().map(|point| self.rows.hessian(&self.loss, point)).collect());
    }
}

async fn ask<T>(asked: &RefCell<Vec<Asked<T>>>, point: &[f64]) -> Result<T> {
    let (sender, answer) = oneshot::channel();
    asked.borrow_mut().push((point.to_vec(), sender));
    answer.await.unwrap_or_else(|_| Err(MlError::Internal("a pass over the rows gave no answer".to_owned())))
}

/// Gives all what is at their points, each of which is looked at once.
fn give<T: Clone>(asked: Vec<Asked<T>>, look: impl FnOnce(&[Vec<f64>]) -> Result<Vec<T>>) {
    let mut points: Vec<Vec<f64>> = Vec::new();
    let mut waiting = Vec::with_capacity(asked.len());
    for (point, sender) in asked {
        let place = points.iter().position(|other| *other == point).unwrap_or_else(|| {
            points.push(point);
            points.len() - 1
        });
        waiting.push((place, sender));
    }
    if points.is_empty() {
        return;
    }
    let found = look(&points);
    for (place, sender) in waiting {
        // A solver that was given up waits no longer.
        let _ = sender.send(match &found {
            Ok(found) => Ok(found[place].clone()),
            Err(MlError::Cancelled) => Err(MlError::Cancelled),
            Err(e) => Err(MlError::Invalid(e.to_string())),
        });
    }
}

//! Who is before whom.

use std::collections::VecDeque;

use crate::waiter::Ticket;

/// Tickets, the oldest first. Cheap at both ends, where nearly all come and go.
#[derive(Debug, Default)]
pub(crate) struct TicketQueue(pub(crate) VecDeque<Ticket>);

impl TicketQueue {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn first(&self) -> Option<Ticket> {
        self.0.front().copied()
    }

    /// How many are older than this one.
    pub(crate) fn place_of(&self, ticket: Ticket) -> usize {
        self.0.partition_point(|other| *other < ticket)
    }

    /// Puts a ticket into its place; returns whether it was not there.
    pub(crate) fn insert(&mut self, ticket: Ticket) -> bool {
        if self.0.back().is_none_or(|last| *last < ticket) {
            self.0.push_back(ticket);
            return true;
        }
        let place = self.place_of(ticket);
        let is_new = self.0.get(place) != Some(&ticket);
        if is_new {
            self.0.insert(place, ticket);
        }
        is_new
    }

    /// Takes a ticket out, if it is there.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        if self.first() == Some(ticket) {
            self.0.pop_front();
            return;
        }
        let place = self.place_of(ticket);
        if self.0.get(place) == Some(&ticket) {
            self.0.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_in_order_and_once_however_they_come() {
        let ticket = |serial| Ticket { serial, index: 0 };
        let mut queue = TicketQueue::default();
        for serial in [3, 5, 4, 1, 5, 1, 2] {
            queue.insert(ticket(serial));
        }
        assert_eq!(queue.0, [1, 2, 3, 4, 5].map(ticket));
        for serial in [3, 1, 9, 5, 3] {
            queue.remove(ticket(serial));
        }
        assert_eq!(queue.0, [2, 4].map(ticket));
        assert_eq!((queue.first(), queue.place_of(ticket(3)), queue.len()), (Some(ticket(2)), 1, 2));
    }
}

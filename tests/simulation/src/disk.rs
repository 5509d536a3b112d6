//! The disk under one run's journal: what was appended is lost in a crash until it was synced.

/// One run's journal, as lines that end in a line feed. It outlives the processes that write it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    lines: Vec<String>,
    /// Lines that survive a loss of power.
    durable: usize,
    /// Lines that survive the end of the process: the operating system has them.
    flushed: usize,
    bytes: u64,
    /// A piece of a line, which was being written in a crash.
    torn: Option<String>,
}

impl Disk {
    /// Appends a line. Behind a torn piece that was not cut off, the line is spoiled.
    pub(crate) fn append(&mut self, line: String) {
        self.bytes += line.len() as u64;
        let line = match self.torn.take() {
            Some(piece) => piece + &line,
            None => line,
        };
        self.lines.push(line);
    }

    pub(crate) fn flush(&mut self) {
        self.flushed = self.lines.len();
    }

    pub(crate) fn sync(&mut self) {
        self.flush();
        self.durable = self.lines.len();
    }

    /// Returns whether the process holds lines that only it has.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.flushed < self.lines.len()
    }

    /// A process ends that cannot write any more: the lines that only it had are lost.
    pub(crate) fn lose_unflushed(&mut self) {
        self.lines.truncate(self.flushed);
    }

    /// Power is lost: some of the lines that were not synced survive, and of the next line a piece of this many bytes.
    pub(crate) fn crash(&mut self, surviving: usize, piece_bytes: usize) {
        let kept = (self.durable + surviving).min(self.lines.len());
        let next = self.lines.get(kept).filter(|_| piece_bytes > 0);
        let torn =
            next.map(|next| next[..next.floor_char_boundary(piece_bytes.min(next.len() - 1))].to_owned());
        self.torn = torn.filter(|piece| !piece.is_empty());
        self.lines.truncate(kept);
        self.durable = kept;
        self.flushed = kept;
    }

    pub(crate) fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Removes the piece of a line that was being written in a crash, as a host does before it resumes a run.
    pub(crate) fn cut_torn_tail(&mut self) {
        self.torn = None;
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lines.len() - self.durable
    }

    /// Lines that a crash at this moment leaves for certain.
    pub(crate) fn durable(&self) -> &[String] {
        &self.lines[..self.durable]
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The journal's files, as the product writes them: a file a segment, each line behind its checksum, and a torn tail as it is.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = vec![String::new()];
        for line in &self.lines {
            let file = files.last_mut().expect("there is always one");
            if line.starts_with(r#"{"snapshot":"#) && !file.is_empty() {
                files.push(framed(line));
            } else {
                file.push_str(&framed(line));
            }
        }
        if let Some(piece) = &self.torn {
            files.last_mut().expect("there is always one").push_str(piece);
        }
        files
    }
}

fn framed(line: &str) -> String {
    let json = line.trim_end_matches('\n');
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(lines: &[&str]) -> Disk {
        let mut disk = Disk::default();
        for line in lines {
            disk.append(format!("{line}\n"));
        }
        disk
    }

    #[test]
    fn synced_lines_survive_a_crash_and_a_prefix_of_the_others() {
        let mut disk = disk(&["a", "b"]);
        disk.sync();
        disk.append("c\n".to_owned());
        disk.append("déf\n".to_owned());
        disk.crash(1, 2);
        assert_eq!((disk.lines().len(), disk.unsynced(), disk.is_torn()), (3, 0, true));
        disk.append("g\n".to_owned());
        assert_eq!(disk.lines()[3], "dg\n", "a tail that was not cut off spoils the next line");
        disk.crash(0, 0);
        assert_eq!((disk.lines().len(), disk.is_torn()), (3, false));
    }

    #[test]
    fn a_snapshot_starts_a_file() {
        let disk = disk(&[r#"{"start":1}"#, r#"{"snapshot":2}"#, r#"{"step":3}"#]);
        let lines: Vec<usize> = disk.files().iter().map(|file| file.lines().count()).collect();
        assert_eq!(lines, [1, 2]);
        assert!(disk.files()[0].ends_with(" {\"start\":1}\n"));
    }
}

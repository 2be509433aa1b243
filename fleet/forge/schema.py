"""The tables of the forge. Issues and pull requests share one numbering per repository, as on GitHub."""

from __future__ import annotations

VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS users (
  id INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE COLLATE NOCASE, name TEXT NOT NULL, email TEXT NOT NULL,
  type TEXT NOT NULL DEFAULT 'User', created_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
  digest TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, scopes TEXT NOT NULL, repos TEXT,
  created_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
  digest TEXT PRIMARY KEY, token TEXT NOT NULL REFERENCES tokens(digest) ON DELETE CASCADE, created_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS repos (
  id INTEGER PRIMARY KEY, owner TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
  default_branch TEXT NOT NULL, private INTEGER NOT NULL, description TEXT NOT NULL, next_number INTEGER NOT NULL,
  created_at TEXT NOT NULL, updated_at TEXT NOT NULL, UNIQUE (owner, name));
CREATE TABLE IF NOT EXISTS permissions (
  repo_id INTEGER NOT NULL REFERENCES repos, user_id INTEGER NOT NULL REFERENCES users,
  level TEXT NOT NULL CHECK (level IN ('read', 'write', 'admin')), PRIMARY KEY (repo_id, user_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refs (
  repo_id INTEGER NOT NULL REFERENCES repos, name TEXT NOT NULL, sha TEXT NOT NULL,
  PRIMARY KEY (repo_id, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS issues (
  id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos, number INTEGER NOT NULL,
  is_pull INTEGER NOT NULL, title TEXT NOT NULL, body TEXT, state TEXT NOT NULL CHECK (state IN ('open', 'closed')),
  state_reason TEXT, author_id INTEGER NOT NULL REFERENCES users, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
  closed_at TEXT, closed_by INTEGER REFERENCES users, UNIQUE (repo_id, number));
CREATE TABLE IF NOT EXISTS pulls (
  issue_id INTEGER PRIMARY KEY REFERENCES issues, repo_id INTEGER NOT NULL REFERENCES repos, open INTEGER NOT NULL,
  head_ref TEXT NOT NULL, head_sha TEXT NOT NULL, base_ref TEXT NOT NULL, base_sha TEXT NOT NULL,
  draft INTEGER NOT NULL, merged_at TEXT, merged_by INTEGER REFERENCES users, merge_sha TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_pull ON pulls (repo_id, head_ref, base_ref) WHERE open = 1;
CREATE TABLE IF NOT EXISTS labels (
  id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos, name TEXT NOT NULL COLLATE NOCASE,
  color TEXT NOT NULL, description TEXT, UNIQUE (repo_id, name));
CREATE TABLE IF NOT EXISTS issue_labels (
  issue_id INTEGER NOT NULL REFERENCES issues, label_id INTEGER NOT NULL REFERENCES labels ON DELETE CASCADE,
  PRIMARY KEY (issue_id, label_id));
CREATE TABLE IF NOT EXISTS assignees (
  issue_id INTEGER NOT NULL REFERENCES issues, user_id INTEGER NOT NULL REFERENCES users,
  PRIMARY KEY (issue_id, user_id));
CREATE TABLE IF NOT EXISTS reviewers (
  issue_id INTEGER NOT NULL REFERENCES issues, user_id INTEGER NOT NULL REFERENCES users,
  PRIMARY KEY (issue_id, user_id));
CREATE TABLE IF NOT EXISTS comments (
  id INTEGER PRIMARY KEY, issue_id INTEGER NOT NULL REFERENCES issues, author_id INTEGER NOT NULL REFERENCES users,
  body TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS comments_of ON comments (issue_id);
CREATE TABLE IF NOT EXISTS reviews (
  id INTEGER PRIMARY KEY, issue_id INTEGER NOT NULL REFERENCES issues, user_id INTEGER NOT NULL REFERENCES users,
  state TEXT NOT NULL, body TEXT NOT NULL, commit_id TEXT NOT NULL, submitted_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS timeline (
  id INTEGER PRIMARY KEY, issue_id INTEGER NOT NULL REFERENCES issues, event TEXT NOT NULL,
  actor_id INTEGER NOT NULL REFERENCES users, data TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS timeline_of ON timeline (issue_id);
CREATE TABLE IF NOT EXISTS statuses (
  id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos, sha TEXT NOT NULL, state TEXT NOT NULL,
  context TEXT NOT NULL, description TEXT, target_url TEXT, creator_id INTEGER NOT NULL REFERENCES users,
  created_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS statuses_of ON statuses (repo_id, sha);
CREATE TABLE IF NOT EXISTS check_runs (
  id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos, sha TEXT NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL, conclusion TEXT, details_url TEXT, external_id TEXT NOT NULL, output TEXT NOT NULL,
  started_at TEXT, completed_at TEXT, creator_id INTEGER NOT NULL REFERENCES users);
CREATE INDEX IF NOT EXISTS check_runs_of ON check_runs (repo_id, sha);
CREATE TABLE IF NOT EXISTS hooks (
  id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos, url TEXT NOT NULL, secret TEXT NOT NULL,
  content_type TEXT NOT NULL, events TEXT NOT NULL, active INTEGER NOT NULL, created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  id INTEGER PRIMARY KEY, hook_id INTEGER NOT NULL REFERENCES hooks ON DELETE CASCADE, guid TEXT NOT NULL,
  event TEXT NOT NULL, action TEXT, body BLOB NOT NULL, redelivery INTEGER NOT NULL,
  phase TEXT NOT NULL CHECK (phase IN ('waiting', 'sending', 'over')),
  status TEXT NOT NULL, status_code INTEGER NOT NULL, response TEXT NOT NULL,
  duration REAL NOT NULL, delivered_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (id) WHERE phase = 'waiting';
"""

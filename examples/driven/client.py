"""Keep a `pipe-init run --events - --unordered` open, and call its function. The arguments are the command to run."""

import json
import subprocess
import sys


class Function:
    """A function that pipe-init serves. One call at a time: it writes a line, then reads a line."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def call(self, event):
        self.process.stdin.write(json.dumps(event) + "\n")  # one line: json.dumps writes no line break
        self.process.stdin.flush()  # otherwise the line stays in this program's buffer
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"pipe-init has ended with exit code {self.process.wait()}")
        answer = json.loads(line)  # {"index": 0, "result": …} or {"index": 0, "error": {…}}
        if "error" in answer:
            raise RuntimeError("{errorType}: {errorMessage}".format(**answer["error"]))
        return answer["result"]

    def close(self):
        self.process.stdin.close()  # no more events: pipe-init stops its worker and ends
        return self.process.wait()


function = Function(sys.argv[1:])
for a, b in ((4, 2), (1, 0), (9, 3)):
    try:
        print(a, "/", b, "=", function.call({"a": a, "b": b}))
    except RuntimeError as error:
        print(f"{a} / {b}: {error}")
print("exit code", function.close())

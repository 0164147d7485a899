from typing import Any

from monai.deploy.core import Operator, OperatorSpec
from scores_text import scores_text


class ScoresTextOperator(Operator):
    """Write the bundle's diagnosis report as the text of a DICOM SR.

    Named input:
        report: content of the bundle's `<case>_diagnosis.json`.

    Named output:
        text: class scores, notes and notice, one per line.
    """

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the input and output."""
        spec.input("report")
        spec.output("text")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Emit the text."""
        op_output.emit(scores_text(op_input.receive("report")), "text")

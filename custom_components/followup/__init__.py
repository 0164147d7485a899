"""Two scans of one patient: registered lungs, change of volumes, change map, and the page that shows them."""

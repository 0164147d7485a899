"""All mutations, in the order in which data walk through the package."""

from tests.mutations.images import IMAGES
from tests.mutations.networks import NETWORKS
from tests.mutations.scores import SCORES
from tests.mutations.training import TRAINING

MUTATIONS = [*IMAGES, *NETWORKS, *TRAINING, *SCORES]

from bbopt.space import *
from bbopt.task import *
